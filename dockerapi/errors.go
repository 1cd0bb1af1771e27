package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/common"

	"github.com/brigd/brig/internal/errs"
)

// statusOf is the only place where an error's kind becomes an HTTP status.
func statusOf(err error) int {
	switch errs.KindOf(err) {
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Unauthorized:
		return http.StatusUnauthorized
	case errs.Forbidden:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Conflict:
		return http.StatusConflict
	case errs.NotModified:
		return http.StatusNotModified
	case errs.Unavailable:
		return http.StatusServiceUnavailable
	case errs.NotImplemented:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError // Internal, and Canceled, which nobody is left to read
}

// writeError answers with err's status and Docker's {"message": …}.
func writeError(w http.ResponseWriter, err error) {
	status := statusOf(err)
	if status == http.StatusNotModified {
		w.WriteHeader(status) // RFC 9110, 15.4.5: no content
		return
	}
	writeJSON(w, status, common.ErrorResponse{Message: err.Error()}) // fails only if the client is gone
}

// pageNotFound is what dockerd says to an unknown path, and to a known one with the wrong method.
func pageNotFound() error { return errs.New(errs.NotFound, "page not found") }

// notYet refuses what a later issue brings.
func notYet(format string, args ...any) error {
	return errs.New(errs.NotImplemented, format, args...)
}
