// Package jailer makes, runs and unmakes jails. On Linux a jail is a bundle that an OCI runtime (crun where it can start, else runc)
// runs, with a brig-shim that stays with it; FreeBSD's jail(2) has a file of its own.
//
// A jail's life: Create (bundle and shim), Attach as often as wanted, Start, Exec, Signal, Wait, Destroy. All state that outlives the
// daemon is in the run directory, in the kernel, and in the shim; a Jailer itself may be made anew at any time.
package jailer

import (
	"log/slog"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// Config is what a Jailer needs.
type Config struct {
	Runtime  string // path of an OCI runtime; "auto" or "": crun if it can start here, else runc. On FreeBSD brig-jail's, beside the shim
	Shim     string // path of brig-shim
	Instance string // of this brig; names its cgroups and shims
	RunDir   string // directory of all jails' run directories; "" : Sweep leaves stale directories alone
	PodDir   string // directory for what pods share; for pods alone
	Log      *slog.Logger
	Ruleset  int           // devfs ruleset for jails' /dev, brig's own; 0: one of brig's choice. FreeBSD alone
	Linger   time.Duration // how long a shim stays that has no process and that nobody talks to; 0: a minute

	LoadModules bool // load kernel modules that are missing, rather than only name them. FreeBSD alone

	// SharedNetwork says that containers in networks have addresses of the host's network stack, not one of their own. FreeBSD alone
	SharedNetwork bool
}

// Facts is what docker info shows of the jailer.
type Facts struct {
	RuntimeName, RuntimePath, RuntimeVersion string
	CgroupVersion                            string // "1" or "2"
	CgroupDriver                             string
	Controllers                              []string // in v1's names
	SecurityOptions                          []string // as docker info has them: "name=seccomp,profile=builtin"
	InitBinary                               string

	MemoryLimit, SwapLimit, OomKillDisable                  bool
	CPUCfsPeriod, CPUCfsQuota, CPUShares, CPUSet, PidsLimit bool
	Blkio                                                   bool
	Warnings                                                []string // what this host can't give, in docker info's words
}

// CgroupParent is the parent of the jails' cgroups if Jail.Cgroup names none; Sweep looks beneath it.
func CgroupParent(instance string) string { return "/brig-" + instance }

// live returns the run directories and jail IDs of handles.
func live(handles []*brig.Handle) (dirs, ids map[string]bool) {
	dirs, ids = map[string]bool{}, map[string]bool{}
	for _, h := range handles {
		dirs[h.Dir], ids[h.JailID] = true, true
	}
	return dirs, ids
}
