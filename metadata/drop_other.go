//go:build !linux && !freebsd

package metadata

import (
	"log/slog"

	"github.com/brigd/brig/internal/errs"
)

func drop(Options, *slog.Logger) error {
	return errs.New(errs.NotImplemented, "brig-mds runs on FreeBSD and Linux alone")
}
