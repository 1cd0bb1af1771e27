package trust

import (
	"bytes"
	"cmp"
	"crypto"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Bounds on what is read: bytes of a keyring or a signature, keys in one, signatures of one ACI.
const (
	maxRing       = 1 << 20
	maxSignatures = 16
)

// A key is a parsed one.
type key struct {
	brig.TrustedKey
	entity *openpgp.Entity
}

// config is what is demanded of signatures and keys at the moment. SHA-1 may still bind old keys' identities (for them collisions are of
// no use to a stranger), but not sign an ACI.
func (s *Store) config() *packet.Config {
	broken := map[crypto.Hash]bool{crypto.MD5: true, crypto.RIPEMD160: true, crypto.SHA1: true}
	return &packet.Config{Time: s.now, MinRSABits: 2048, RejectMessageHashAlgorithms: broken,
		RejectHashAlgorithms: map[crypto.Hash]bool{crypto.MD5: true, crypto.RIPEMD160: true}}
}

// Read returns the public keys of a keyring, armoured or not. Invalid: there is none, or private ones.
func (s *Store) Read(ring []byte) ([]brig.TrustedKey, error) {
	keys, err := s.parse(ring)
	if err != nil {
		return nil, err
	}
	out := make([]brig.TrustedKey, len(keys))
	for i, k := range keys {
		out[i] = k.TrustedKey
	}
	return out, nil
}

func (s *Store) parse(ring []byte) ([]key, error) {
	if len(ring) > maxRing {
		return nil, errs.New(errs.Invalid, "the keyring has %d bytes, more than %d", len(ring), maxRing)
	}
	var list openpgp.EntityList
	blocks, err := unarmor(ring, openpgp.PublicKeyType)
	if err != nil {
		return nil, errs.Wrap(err, "read keys")
	}
	for _, b := range blocks {
		some, err := openpgp.ReadKeyRing(bytes.NewReader(b))
		if err != nil {
			return nil, errs.New(errs.Invalid, "read keys: %w", err)
		}
		list = append(list, some...)
	}
	var keys []key
	for _, e := range list {
		if e.PrivateKey != nil {
			return nil, errs.New(errs.Invalid, "read keys: %x is a private key, which nobody else should have; give the public one", e.PrimaryKey.Fingerprint)
		}
		k, err := s.describe(e)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errs.New(errs.Invalid, "read keys: there is no OpenPGP public key")
	}
	return keys, nil
}

// unarmor returns the packets of armoured blocks, all of one type, or what is given where there is no armour.
func unarmor(b []byte, kind string) ([][]byte, error) {
	if !bytes.Contains(b, []byte("-----BEGIN PGP")) {
		return [][]byte{b}, nil
	}
	var out [][]byte
	for _, part := range strings.SplitAfter(string(b), "-----END PGP") { // armor.Decode reads ahead, so each block has a reader of its own
		if !strings.Contains(part, "-----BEGIN PGP") {
			continue
		}
		block, err := armor.Decode(strings.NewReader(part + " " + kind[len("PGP "):] + "-----\n"))
		if err != nil {
			return nil, errs.New(errs.Invalid, "broken armour: %w", err)
		}
		if block.Type != kind {
			return nil, errs.New(errs.Invalid, "it is a %s, not a %s", block.Type, kind)
		}
		raw, err := io.ReadAll(block.Body)
		if err != nil {
			return nil, errs.New(errs.Invalid, "broken armour: %w", err)
		}
		out = append(out, raw)
	}
	return out, nil
}

// describe says what a person wants to know of a key.
func (s *Store) describe(e *openpgp.Entity) (key, error) {
	k := key{entity: e}
	k.Fingerprint, k.Created = hex.EncodeToString(e.PrimaryKey.Fingerprint), e.PrimaryKey.CreationTime.UTC()
	if !fingerprintRE.MatchString(k.Fingerprint) {
		return k, errs.New(errs.Invalid, "the key %s has a version that is too old to be trusted", k.Fingerprint)
	}
	k.Identities = slices.Sorted(maps.Keys(e.Identities))
	for i, name := range k.Identities {
		k.Identities[i] = printable(name)
	}
	self, err := e.PrimarySelfSignature(time.Time{}, s.config())
	if err == nil && self.KeyLifetimeSecs != nil && *self.KeyLifetimeSecs > 0 {
		k.Expires = k.Created.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second)
	}
	if _, err := e.VerifyPrimaryKey(s.now(), s.config()); err != nil {
		k.Problem = words(err)
	} else if _, ok := e.SigningKey(s.now(), s.config()); !ok {
		k.Problem = "it has no part that may sign and is valid now, or is too weak"
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err == nil {
		err = errors.Join(e.Serialize(w), w.Close())
	}
	k.Armored = b.String() + "\n"
	return k, errs.As(errs.Invalid, err)
}

// printable keeps an identity from writing over what a terminal shows.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}

// words drops the library's prefix.
func words(err error) string {
	return strings.TrimPrefix(err.Error(), "openpgp: ")
}

// A Verification is one signed stream being read.
type Verification struct {
	store *Store
	keys  []key
	md    *openpgp.MessageDetails
	done  bool // the end was read
}

// Verify begins the check of a detached signature, armoured or not, over the bytes of r. What is read from the result is what r gives;
// it must be read to its end, then Signers says who signed. Invalid: it is no signature.
func (s *Store) Verify(r io.Reader, signature []byte) (*Verification, error) {
	if len(signature) > maxRing {
		return nil, errs.New(errs.Invalid, "the signature has %d bytes, more than %d", len(signature), maxRing)
	}
	blocks, err := unarmor(signature, openpgp.SignatureType)
	if err != nil {
		return nil, errs.Wrap(err, "read the signature")
	}
	keys, err := s.load()
	if err != nil {
		return nil, err
	}
	var ring openpgp.EntityList
	seen := map[string]bool{}
	for _, k := range keys {
		if !seen[k.Fingerprint] {
			seen[k.Fingerprint], ring = true, append(ring, k.entity)
		}
	}
	md, err := openpgp.VerifyDetachedSignatureReader(ring, r, bytes.NewReader(bytes.Join(blocks, nil)), s.config())
	if err != nil {
		return nil, errs.New(errs.Invalid, "read the signature: there is none that can be understood: %s", words(err))
	}
	if n := len(md.SignatureCandidates); n > maxSignatures {
		return nil, errs.New(errs.Invalid, "read the signature: there are %d, more than %d", n, maxSignatures)
	}
	return &Verification{store: s, keys: keys, md: md}, nil
}

// Read implements io.Reader.
func (v *Verification) Read(p []byte) (int, error) {
	n, err := v.md.UnverifiedBody.Read(p)
	if err == io.EOF {
		v.done = true
	}
	return n, err
}

// Signers returns who of those that are trusted for name made a good signature over all that was read. name "" asks for any trusted
// signer, whatever for: a stranger's ACI need not be unpacked to find out its name. Forbidden, with what is wrong with each signature:
// there is none.
func (v *Verification) Signers(name string) ([]brig.Signer, error) {
	if !v.done {
		return nil, errs.New(errs.Internal, "the signature was asked for before the end of what it signs")
	}
	var signers []brig.Signer
	var problems []string
	for _, c := range v.md.SignatureCandidates {
		signer, problem := v.judge(c, name)
		if problem != "" {
			problems = append(problems, problem)
			continue
		}
		if !slices.Contains(signers, *signer) {
			signers = append(signers, *signer)
		}
	}
	if len(signers) == 0 {
		return nil, errs.New(errs.Forbidden, "%s", strings.Join(problems, "; "))
	}
	return signers, nil
}

// judge says who made one signature, or why it counts for nothing.
func (v *Verification) judge(c *openpgp.SignatureCandidate, name string) (*brig.Signer, string) {
	id := hex.EncodeToString(c.IssuerFingerprint)
	if id == "" {
		id = hex.EncodeToString([]byte{byte(c.IssuerKeyId >> 56), byte(c.IssuerKeyId >> 48), byte(c.IssuerKeyId >> 40), byte(c.IssuerKeyId >> 32),
			byte(c.IssuerKeyId >> 24), byte(c.IssuerKeyId >> 16), byte(c.IssuerKeyId >> 8), byte(c.IssuerKeyId)})
	}
	switch e := c.SignedByEntity; {
	case c.SigType != packet.SigTypeBinary:
		return nil, "the signature by " + id + " is none of a file's bytes"
	case e == nil:
		return nil, "it is signed by " + id + ", a key that is not trusted"
	case c.SignatureError != nil:
		return nil, "the signature by " + id + " is bad: " + words(c.SignatureError)
	case c.SignedBy == nil:
		return nil, "the signature by " + id + " could not be checked"
	}
	now, config := v.store.now(), v.store.config()
	// The library asks whether the key was good when it signed. A key that has been lost since can sign with any date.
	if _, err := c.SignedByEntity.VerifyPrimaryKey(now, config); err != nil {
		return nil, "the signature by " + id + " is bad: " + words(err)
	}
	if _, ok := c.SignedByEntity.SigningKeyById(now, c.SignedBy.PublicKey.KeyId, config); !ok {
		return nil, "the signature by " + id + " is bad: the key has expired, was revoked, or is too weak"
	}
	return v.trusted(c.SignedByEntity, name)
}

// trusted looks for what a key is trusted for.
func (v *Verification) trusted(e *openpgp.Entity, name string) (*brig.Signer, string) {
	fp := hex.EncodeToString(e.PrimaryKey.Fingerprint)
	var others []string
	for _, k := range v.keys {
		if k.Fingerprint != fp {
			continue
		}
		if name == "" || covers(k.Prefix, name) {
			s := brig.Signer{Fingerprint: fp}
			if len(k.Identities) > 0 {
				s.Identity = k.Identities[0]
			}
			return &s, ""
		}
		others = append(others, k.Prefix)
	}
	return nil, "it is signed by " + fp + ", which is trusted for " + cmp.Or(strings.Join(others, ", "), "nothing") + ", not for " + name
}
