// Package errs gives errors a kind that decides behaviour, on top of the standard errors.Is and errors.As.
//
// An error's text is what a person reads, and what Docker clients match on, so New adds nothing to the given text.
// Wrap puts what was tried in front of it. Only dockerapi turns a Kind into an HTTP status.
package errs

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what a caller can do about an error.
type Kind int

// The kinds, and the HTTP status that dockerapi gives each.
const (
	Internal       Kind = iota // 500: a fault of the engine or of the host
	Invalid                    // 400: the request makes no sense as it stands
	Unauthorized               // 401: credentials are missing or wrong
	Forbidden                  // 403: understood, and refused
	NotFound                   // 404: the object does not exist
	Conflict                   // 409: the object's state or name forbids it now
	NotModified                // 304: it is so already
	Unavailable                // 503: something that is needed does not answer; try again later
	NotImplemented             // 501: brig does not do this
	Canceled                   // the caller went away
)

var kindNames = [...]string{"internal", "invalid", "unauthorized", "forbidden", "not found", "conflict", "not modified", "unavailable", "not implemented", "canceled"}

// String returns the kind's name, for logs.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind %d", int(k))
	}
	return kindNames[k]
}

type kindError struct {
	kind Kind
	err  error
}

func (e *kindError) Error() string { return e.err.Error() }
func (e *kindError) Unwrap() error { return e.err }

// New returns an error of the kind whose text is the format's result; %w works as in fmt.Errorf.
func New(k Kind, format string, args ...any) error {
	return &kindError{k, fmt.Errorf(format, args...)}
}

// As gives err the kind k and keeps its text. It returns nil for nil.
func As(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &kindError{k, err}
}

// Wrap puts what was tried in front of err and keeps its kind. It returns nil for nil.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// KindOf returns the outermost kind in err's tree: Canceled for a context's end without a kind, else Internal.
func KindOf(err error) Kind {
	var k *kindError
	if errors.As(err, &k) {
		return k.kind
	}
	if errors.Is(err, context.Canceled) {
		return Canceled
	}
	return Internal
}

// Is reports whether err is not nil and of kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
