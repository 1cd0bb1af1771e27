package ocispec

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/errs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// limitNames are getrlimit(2)'s, as docker's --ulimit has them.
var limitNames = []string{
	"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// ulimits sets what is asked for; all other limits are the daemon's own. A hard limit beyond the daemon's takes CAP_SYS_RESOURCE.
func ulimits(in *Input, s *specs.Spec) (warnings []string, err error) {
	mayRaise := slices.Contains(in.Host.Caps, "CAP_SYS_RESOURCE")
	for _, u := range in.Jail.Spec.Ulimits {
		name := strings.ToLower(u.Name)
		if !slices.Contains(limitNames, name) {
			return nil, errs.New(errs.Invalid, "invalid ulimit type: %s", u.Name)
		}
		l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: limitValue(u.Soft), Hard: limitValue(u.Hard)}
		if l.Soft > l.Hard {
			return nil, errs.New(errs.Invalid, "ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		if bound, known := in.Host.HardLimits[l.Type]; known && !mayRaise && l.Hard > bound {
			warnings = append(warnings, fmt.Sprintf("The daemon may not raise ulimit %s above its own hard limit: %s reduced to %d", name, limitText(l.Hard), bound))
			l.Hard = bound
			l.Soft = min(l.Soft, bound)
		}
		s.Process.Rlimits = append(s.Process.Rlimits, l)
	}
	return warnings, nil
}

func limitValue(v int64) uint64 {
	if v < 0 {
		return math.MaxUint64 // RLIM_INFINITY
	}
	return uint64(v)
}

func limitText(v uint64) string {
	if v == math.MaxUint64 {
		return "unlimited"
	}
	return fmt.Sprint(v)
}
