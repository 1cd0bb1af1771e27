package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// imageRef is an image reference taken apart.
type imageRef struct {
	name   string // familiar: "busybox", "host:5000/x"
	tag    string // tag or digest; "" for none
	digest bool   // tag is a digest
}

func (r imageRef) tagOr(def string) string {
	if r.tag == "" {
		return def
	}
	return r.tag
}

// parseImageRef reads a reference; tag, which may be a digest, wins over one inside s.
func parseImageRef(s, tag string) (imageRef, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return imageRef{}, errs.As(errs.Invalid, err)
	}
	if tag != "" {
		if named, err = withTag(reference.TrimNamed(named), tag); err != nil {
			return imageRef{}, errs.As(errs.Invalid, err)
		}
	}
	r := imageRef{name: reference.FamiliarName(named)}
	if again, err := reference.ParseNormalizedNamed(r.name); err != nil || again.Name() != named.Name() {
		r.name = named.Name() // 64 hex digits alone mean an ID, and "docker.io/example.com/x" without its host another repository
	}
	if d, ok := named.(reference.Digested); ok {
		r.tag, r.digest = d.Digest().String(), true
	} else if t, ok := named.(reference.Tagged); ok {
		r.tag = t.Tag()
	}
	return r, nil
}

func withTag(n reference.Named, tag string) (reference.Named, error) {
	if d, err := digest.Parse(tag); err == nil {
		return reference.WithDigest(n, d)
	}
	return reference.WithTag(n, tag)
}

// authFromHeader reads X-Registry-Auth, base64 (URL alphabet, as docs/api says, or the standard one) of a JSON document. What can't be
// read is no credentials: dockerd doesn't refuse a pull for it either.
func authFromHeader(header string) brig.Auth {
	doc, err := decodeBase64(header)
	if err != nil {
		return brig.Auth{}
	}
	var c registry.AuthConfig
	if json.Unmarshal(doc, &c) != nil {
		return brig.Auth{}
	}
	return authOf(c)
}

// splitBasic reads base64 of user:password; empty strings if it is not that.
func splitBasic(s string) (user, password string) {
	b, err := decodeBase64(s)
	if err != nil {
		return "", ""
	}
	user, password, _ = strings.Cut(strings.TrimRight(string(b), "\x00"), ":")
	return user, password
}

func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.DecodeString(s)
}
