// Tokens of npm's jose for tests/exchange.rs, with the keys of tests/data and an expiry in 2100.
//
//     npm install jose && node tests/data/foreign/jose.mjs > tests/data/foreign/jose.json
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const { SignJWT, importPKCS8 } = await import(pathToFileURL(require.resolve("jose")));
const { version } = JSON.parse(readFileSync("node_modules/jose/package.json"));
const data = new URL("..", import.meta.url);
const claims = { email: "ann@example.com", groups: ["a", "b"], nested: { deep: [1, { x: null }] } };
const tokens = [];
for (const [alg, key] of [["RS256", "rsa2048"], ["PS256", "rsa2048"], ["ES256", "p256"], ["ES384", "p384"], ["EdDSA", "ed25519"]]) {
  const pem = await importPKCS8(readFileSync(new URL(`${key}.pk8.pem`, data), "utf8"), alg);
  tokens.push(
    await new SignJWT(claims)
      .setProtectedHeader({ alg, typ: "JWT", kid: alg })
      .setIssuer("https://idp.example")
      .setAudience(["our-client", "another"])
      .setSubject("ext-ann")
      .setJti(`jose ${alg}`)
      .setIssuedAt(1_799_999_000)
      .setExpirationTime(4_102_444_800)
      .sign(pem),
  );
}
console.log(JSON.stringify({ by: `jose ${version}`, tokens }, null, 1));
