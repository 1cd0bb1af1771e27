package keeper

import (
	"errors"
	"syscall"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/survivor"
)

// protocol is the version of what is said besides hello and quit.
const protocol = 1

// Requests.
const (
	opSet     = "set"
	opReserve = "reserve"
)

type request struct {
	survivor.Request
	State *State `json:",omitempty"` // set
	Ports []Port `json:",omitempty"` // reserve
}

type answer struct {
	survivor.Head
	Ports  []Port    `json:",omitempty"` // reserve
	Errors []failure `json:",omitempty"`
}

// failure is an error on its way to the client.
type failure struct {
	Kind  errs.Kind
	Text  string
	InUse bool `json:",omitempty"` // EADDRINUSE
}

func failures(all []error) (out []failure) {
	for _, err := range all {
		out = append(out, failure{errs.KindOf(err), err.Error(), errors.Is(err, syscall.EADDRINUSE)})
	}
	return out
}

// err makes an error of the failures; nil if there are none.
func (a *answer) err() error {
	var all []error
	for i := range a.Errors {
		all = append(all, errs.As(a.Errors[i].Kind, &a.Errors[i]))
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

func (f *failure) Error() string        { return f.Text }
func (f *failure) Is(target error) bool { return f.InUse && target == syscall.EADDRINUSE }
