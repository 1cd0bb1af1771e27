// Package brig holds the engine's values and its state machine: no I/O, no clocks, no goroutines.
// Every other package speaks in these words; docs/design.md defines them.
package brig

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// An ID names a container, an exec, a network or a volume-less object for its whole life: 64 lower-case hex digits.
type ID string

// NewID returns a random ID. Its first 12 digits are never all decimal, so that the short form can serve as a host name.
func NewID() ID {
	for {
		id := randHex(32)
		if strings.Trim(id[:12], "0123456789") != "" {
			return ID(id)
		}
	}
}

// Short returns the first 12 digits, as Docker prints them.
func (id ID) Short() string { return string(id[:min(12, len(id))]) }

// A RID names a dataset: 16 random lower-case hex digits, never derived from content.
type RID string

// NewRID returns a random RID.
func NewRID() RID { return RID(randHex(8)) }

func randHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

var ridRE = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Valid reports whether r has the form of a RID, and so is one safe path component.
func (r RID) Valid() bool { return ridRE.MatchString(string(r)) }

// A Digest is "sha256:" and 64 lower-case hex digits. Image IDs, diffIDs, chainIDs and blob names are Digests.
type Digest string

var digestRE = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ParseDigest checks s; other algorithms are refused with Invalid.
func ParseDigest(s string) (Digest, error) {
	if !digestRE.MatchString(s) {
		return "", errs.New(errs.Invalid, "invalid digest %q: want sha256 and 64 hex digits", s)
	}
	return Digest(s), nil
}

// Hex returns the digits without the algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), "sha256:") }

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// ChainID returns the chain ID of diff on top of parent ("" for the lowest layer), as the OCI image spec defines it (config.md, "Layer ChainID").
func ChainID(parent, diff Digest) Digest {
	if parent == "" {
		return diff
	}
	return DigestOf([]byte(string(parent) + " " + string(diff)))
}

// ChainIDs returns the chain ID of each layer, given the diffIDs from the lowest up.
func ChainIDs(diffs []Digest) []Digest {
	out := make([]Digest, len(diffs))
	var parent Digest
	for i, d := range diffs {
		parent = ChainID(parent, d)
		out[i] = parent
	}
	return out
}

var nameRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// CheckName accepts what Docker accepts as the name of a container, volume or network: [a-zA-Z0-9][a-zA-Z0-9_.-]+ (at least 2 characters).
func CheckName(what, name string) error {
	if len(name) < 2 || len(name) > 255 || !nameRE.MatchString(name) {
		return errs.New(errs.Invalid, "Invalid %s name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", what, name)
	}
	return nil
}
