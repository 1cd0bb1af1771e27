// Package kmod finds kernel modules of FreeBSD, and loads those that are missing if it may.
package kmod

import (
	"context"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// A Kernel has modules, as files or as parts of itself.
type Kernel struct {
	Allowed bool                                         // Need may load what is missing
	Has     func(name string) bool                       // by the file's name without .ko, or the module's
	Load    func(ctx context.Context, name string) error // kldload(8)'s; why it failed
}

// Need sees to it that all named modules are there. The error (Unavailable) names each one that isn't, and the commands that load it now and
// at each boot.
func (k Kernel) Need(ctx context.Context, names ...string) error {
	var missing, why []string
	for _, name := range names {
		if k.Has(name) {
			continue
		}
		if k.Allowed {
			err := k.Load(ctx, name)
			if err == nil {
				continue
			}
			why = append(why, err.Error())
		}
		missing = append(missing, name)
	}
	if len(missing) == 0 {
		return nil
	}
	if !k.Allowed {
		why = append(why, "load-modules is false")
	}
	what := "kernel module " + missing[0] + " is missing"
	if len(missing) > 1 {
		what = "kernel modules " + strings.Join(missing, ", ") + " are missing"
	}
	return errs.New(errs.Unavailable, "%s: %s (%s)", what, strings.Join(why, "; "), Command(missing))
}

// Command is what an operator can run to have the modules now, and after each boot.
func Command(missing []string) string {
	list := strings.Join(missing, " ")
	return "kldload " + list + `; sysrc kld_list+="` + list + `"`
}
