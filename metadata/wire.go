package metadata

import (
	"errors"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/survivor"
)

// protocol is the version of what is said between brigd and brig-mds besides hello and quit.
const protocol = 1

// Requests.
const (
	opSet  = "set"  // everything: keys, and all that is published
	opLook = "look" // at what is published of some pods
)

type request struct {
	survivor.Request
	Keys   *Keys    `json:",omitempty"` // set
	Issuer string   `json:",omitempty"` // set: of JWTs
	UUIDs  []string `json:",omitempty"` // look
}

type answer struct {
	survivor.Head
	Error string `json:",omitempty"` // what could not be done; all else is
}

func (a *answer) err() error {
	if a.Error == "" {
		return nil
	}
	return errs.As(errs.Unavailable, errors.New(a.Error))
}
