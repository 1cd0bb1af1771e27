package metadata

import (
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/brigd/brig/internal/errs"
)

// tokenLife is how long a JWT is valid: it is as good as the pod for whoever has it. Clocks may differ by skew.
const (
	tokenLife = 5 * time.Minute
	skew      = 30 * time.Second
)

// claims are a JWT's beside the registered ones (RFC 7519, 4.1): sub is the pod's UUID.
type claims struct {
	jwt.Claims
	Apps []appClaim `json:"apps"`
}

type appClaim struct {
	Name  string `json:"name"`
	Image string `json:"image,omitempty"` // appc image ID
}

// issue makes a JWT that says to audience who the pod is.
func (k *Keys) issue(issuer, uuid string, apps []appClaim, audience []string) (string, error) {
	key, err := k.Sign[0].jwk()
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", errs.Wrap(err, "make an identity token")
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // it never fails (crypto/rand)
	now := time.Now()
	text, err := jwt.Signed(signer).Claims(claims{
		Claims: jwt.Claims{
			Issuer: issuer, Subject: uuid, Audience: audience, ID: base64.RawURLEncoding.EncodeToString(id),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-skew)), Expiry: jwt.NewNumericDate(now.Add(tokenLife)),
		},
		Apps: apps,
	}).Serialize()
	return text, errs.Wrap(err, "make an identity token")
}

// jwk is the key that signs JWTs, named by its thumbprint (RFC 7638).
func (k *Key) jwk() (jose.JSONWebKey, error) {
	out := jose.JSONWebKey{Key: k.ed25519(), Algorithm: string(jose.EdDSA), Use: "sig"}
	sum, err := (&jose.JSONWebKey{Key: k.ed25519().Public()}).Thumbprint(crypto.SHA256)
	out.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	return out, errs.Wrap(err, "name a key")
}

// JWKS is the set of public keys that verify JWTs (RFC 7517), as JSON: those that can have signed one that hasn't expired.
func (k *Keys) JWKS() ([]byte, error) {
	var set jose.JSONWebKeySet
	for _, key := range k.valid() {
		j, err := key.jwk()
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, j.Public())
	}
	return json.Marshal(set)
}
