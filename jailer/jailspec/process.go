package jailspec

import (
	"fmt"
	"math"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/ocispec"
)

// process sets what the main process is.
func process(in *Input, b *Bundle) ([]string, error) {
	j := in.Jail
	limits, warnings, err := processLimits(in)
	if err != nil {
		return nil, err
	}
	b.Main = Process{
		Args: j.Args, Env: ocispec.Env(j.Hostname, j.Spec.TTY, in.User.Home, j.Env), Cwd: ocispec.Cwd(j.Cwd),
		UID: in.User.UID, GID: in.User.GID, Groups: groups(in), Limits: limits, NoNewPrivileges: j.Spec.NoNewPrivileges, TTY: j.Spec.TTY,
	}
	return warnings, nil
}

// Exec is a further process in in.Jail, as in.User. Permissions are the jail's: an exec can have no more, so one that asks is refused.
func Exec(in *Input, e brig.ExecSpec) (*Process, error) {
	if e.Privileged && !in.Jail.Spec.Privileged {
		return nil, errs.New(errs.NotImplemented, "a jail's permissions can't be given to one exec alone: create the container with --privileged")
	}
	limits, _, err := processLimits(in)
	if err != nil {
		return nil, err
	}
	j := in.Jail
	p := &Process{
		Args: e.Args, Env: ocispec.Env(j.Hostname, e.TTY, in.User.Home, j.Env, e.Env), Cwd: ocispec.Cwd(j.Cwd),
		UID: in.User.UID, GID: in.User.GID, Groups: groups(in), Limits: limits, NoNewPrivileges: j.Spec.NoNewPrivileges, TTY: e.TTY,
	}
	if e.ConsoleRows > 0 && e.ConsoleCols > 0 {
		p.Rows, p.Cols = uint16(e.ConsoleRows), uint16(e.ConsoleCols)
	}
	if e.WorkingDir != "" {
		p.Cwd = ocispec.Cwd(e.WorkingDir)
	}
	return p, nil
}

// groups are those that setgroups(2) sets. The first is the process's group itself (before FreeBSD 15), which the Linux ABI leaves out of getgroups(2):
// so that programs for Linux see it, it comes twice for them.
func groups(in *Input) []uint32 {
	if in.Linux && in.Host.Release < 1500000 {
		return append([]uint32{in.User.GID}, in.User.Groups...)
	}
	return in.User.Groups
}

// limitNames are what FreeBSD knows of docker's --ulimit: setrlimit(2).
var limitNames = map[string]bool{
	"as": true, "core": true, "cpu": true, "data": true, "fsize": true, "memlock": true, "nofile": true, "nproc": true, "rss": true, "stack": true,
}

// linuxLimits are the others, which Linux alone has.
var linuxLimits = map[string]bool{"locks": true, "msgqueue": true, "nice": true, "rtprio": true, "rttime": true, "sigpending": true}

func processLimits(in *Input) (out []Limit, warnings []string, err error) {
	for _, u := range in.Jail.Spec.Ulimits {
		name := strings.ToLower(u.Name)
		if linuxLimits[name] {
			warnings = append(warnings, fmt.Sprintf("FreeBSD has no ulimit %s: discarded", name))
			continue
		}
		if !limitNames[name] {
			return nil, nil, errs.New(errs.Invalid, "invalid ulimit type: %s", u.Name)
		}
		l := Limit{"RLIMIT_" + strings.ToUpper(name), limitValue(u.Soft), limitValue(u.Hard)}
		if l.Soft > l.Hard {
			return nil, nil, errs.New(errs.Invalid, "ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		// Root raises hard limits here, but what the kernel has no more of: kern.maxfilesperproc and its like come as HardLimits.
		if bound, known := in.Host.HardLimits[l.Name]; known && l.Hard > bound {
			if l.Hard != math.MaxUint64 {
				warnings = append(warnings, fmt.Sprintf("The kernel has no more of ulimit %s than %d: %d reduced", name, bound, l.Hard))
			}
			l.Hard, l.Soft = bound, min(l.Soft, bound)
		}
		out = append(out, l)
	}
	return out, warnings, nil
}

func limitValue(v int64) uint64 {
	if v < 0 {
		return math.MaxUint64
	}
	return uint64(v)
}
