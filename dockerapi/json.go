package dockerapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/brigd/brig/internal/errs"
)

// maxJSON is the longest JSON request body in bytes.
const maxJSON = 4 << 20

// decode reads the request's JSON body into v. An empty body is Invalid.
func (r *request) decode(v any) error {
	had, err := r.decodeOptional(v)
	if err == nil && !had {
		err = errs.New(errs.Invalid, "invalid JSON: got EOF while reading request body")
	}
	return err
}

// decodeOptional reads the request's JSON body into v if there is one, and reports whether there was. The body is read to its end.
func (r *request) decodeOptional(v any) (bool, error) {
	done := r.hurry()
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxJSON))
	done()
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return false, errs.New(errs.Invalid, "the request's body is larger than %d bytes", maxJSON)
	}
	if err != nil {
		return false, errs.New(errs.Invalid, "read the request's body: %w", err)
	}
	if len(body) == 0 {
		return false, nil
	}
	if err := checkContentType(r.Header.Get("Content-Type")); err != nil {
		return false, err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return false, errs.New(errs.Invalid, "invalid JSON: %w", err)
	}
	return true, nil
}

// checkContentType accepts JSON, and no type at all, as dockerd does.
func checkContentType(ct string) error {
	if ct == "" {
		return nil
	}
	if t, _, err := mime.ParseMediaType(ct); err != nil || t != "application/json" {
		return errs.New(errs.Invalid, "unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return nil
}

// writeJSON answers with status and v. Like dockerd it leaves <, > and & as they are.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
