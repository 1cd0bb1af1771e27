package registry

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/errs"
)

// A refusal is a registry's answer that is not a success.
type refusal struct {
	status  int
	code    string // the API's error code, "DENIED"; "" if the body had none
	message string // in dockerd's words
	retry   string // Retry-After
}

func (r *refusal) Error() string { return r.message }

// maxRefusal bounds what is read of an error's body, in bytes.
const maxRefusal = 64 << 10

// refused reads the error out of a response (distribution's API, "Errors") and closes it. The words are dockerd's:
// the code in lower case, then the message.
func refused(resp *http.Response) error {
	defer resp.Body.Close()
	r := &refusal{status: resp.StatusCode, retry: resp.Header.Get("Retry-After")}
	for _, c := range challenges(resp.Header) {
		if c.scheme != "bearer" || resp.StatusCode >= 500 {
			continue
		}
		switch c.params["error"] { // RFC 6750, section 3.1
		case "insufficient_scope":
			r.code, r.message = "DENIED", or(c.params["error_description"], "requested access to the resource is denied")
		case "invalid_token":
			r.code, r.message = "UNAUTHORIZED", or(c.params["error_description"], "authentication required")
		}
	}
	var body struct {
		Errors []struct{ Code, Message string }
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err == nil && r.code == "" && json.Unmarshal(b, &body) == nil && len(body.Errors) > 0 {
		r.code, r.message = body.Errors[0].Code, or(body.Errors[0].Message, "unknown error")
	}
	if r.code == "" && resp.StatusCode == http.StatusUnauthorized {
		r.code, r.message = "UNAUTHORIZED", "authentication required"
	}
	if r.code == "" {
		what := "received unexpected HTTP status: " + resp.Status
		if resp.StatusCode == http.StatusTooManyRequests {
			what = "toomanyrequests: " + what
		}
		r.message = what
		return errs.As(statusKind(resp.StatusCode), r)
	}
	r.message = strings.ToLower(strings.ReplaceAll(r.code, "_", " ")) + ": " + r.message
	return errs.As(statusKind(resp.StatusCode), r)
}

func statusKind(status int) errs.Kind {
	switch {
	case status == http.StatusUnauthorized:
		return errs.Unauthorized
	case status == http.StatusForbidden:
		return errs.Forbidden
	case status == http.StatusNotFound:
		return errs.NotFound
	case status == http.StatusTooManyRequests || status >= 500:
		return errs.Unavailable
	}
	return errs.Invalid
}

// pullError puts a registry's refusal of named in the words that dockerd uses for it; other errors stay as they are.
func pullError(err error, named reference.Named) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	switch {
	case r.code == "DENIED":
		return errs.New(errs.NotFound, "pull access denied for %s, repository does not exist or may require 'docker login': %w", reference.FamiliarName(named), r)
	case r.code == "MANIFEST_UNKNOWN":
		return errs.New(errs.NotFound, "manifest for %s not found: %w", reference.FamiliarString(named), r)
	case r.code == "NAME_UNKNOWN":
		return errs.New(errs.NotFound, "repository %s not found: %w", reference.FamiliarName(named), r)
	}
	return err
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// readCapped reads all of r, but at most limit bytes: more is Invalid.
func readCapped(r io.Reader, limit int64, what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, errs.New(errs.Unavailable, "%s: %w", what, err)
	}
	if int64(len(b)) > limit {
		return nil, errs.New(errs.Invalid, "%s: larger than %d bytes", what, limit)
	}
	return b, nil
}
