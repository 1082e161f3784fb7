"""Tokens of PyJWT for tests/exchange.rs, with the keys of tests/data and an expiry in 2100.

    pip install "pyjwt[crypto]" && python tests/data/foreign/pyjwt.py > tests/data/foreign/pyjwt.json
"""
import json
import pathlib

import jwt

data = pathlib.Path(__file__).parent.parent
claims = {
    "iss": "https://idp.example",
    "aud": "our-client",
    "sub": "ext-ann",
    "email": "ann@example.com",
    "iat": 1_799_999_000,
    "exp": 4_102_444_800,
}
tokens = []
for alg, key in [("RS256", "rsa2048"), ("PS256", "rsa2048"), ("ES256", "p256"), ("EdDSA", "ed25519")]:
    pem = (data / f"{key}.pk8.pem").read_text()
    for headers in [{}, {"kid": alg}]:
        tokens.append(jwt.encode(claims, pem, algorithm=alg, headers=headers))
print(json.dumps({"by": f"PyJWT {jwt.__version__}", "tokens": tokens}, indent=1))
