package dockerapi

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// A request is an HTTP request with its path, query and version taken apart.
type request struct {
	*http.Request
	vars    map[string]string // the path pattern's variables
	query   url.Values
	version Version
	reading func(within time.Duration) // bounds the time for what is read of the body from now on; 0: no bound; nil: there is none to set
}

// bodyTime is how long a client may take to send a body that is read as a whole. Archives may take any time.
const bodyTime = time.Minute

// hurry bounds the time for the body until the returned function is called.
func (r *request) hurry() (done func()) {
	if r.reading == nil {
		return func() {}
	}
	r.reading(bodyTime)
	return func() { r.reading(0) }
}

// truth reads a query value as Docker does: "", 0, no, false and none are false, all else is true.
func truth(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// flag returns the boolean query parameter.
func (r *request) flag(name string) bool { return truth(r.query.Get(name)) }

// flagOr returns the boolean query parameter, or def if the query doesn't have it.
func (r *request) flagOr(name string, def bool) bool {
	if !r.query.Has(name) {
		return def
	}
	return r.flag(name)
}

// number returns the integer query parameter, or def if it is absent or empty.
func (r *request) number(name string, def int) (int, error) {
	s := r.query.Get(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errs.New(errs.Invalid, "invalid value for %s: %q is not a number", name, s)
	}
	return n, nil
}

// filters returns the query parameter "filters", of which only the keys in known are accepted.
func (r *request) filters(known ...string) (filters, error) {
	f, err := parseFilters(r.query.Get("filters"))
	if err != nil {
		return nil, err
	}
	return f, f.check(known...)
}

// drain reads away a body that nobody wants, at most maxJSON of it: only when it has been read does the server see the client go.
func (r *request) drain() error {
	defer r.hurry()()
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxJSON+1))
	if err == nil && n > maxJSON {
		err = errs.New(errs.Invalid, "the request's body is larger than %d bytes", maxJSON)
	}
	return errs.As(errs.Invalid, err)
}
