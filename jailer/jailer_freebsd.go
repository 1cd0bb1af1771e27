package jailer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
	"github.com/brigd/brig/jailer/jailctl"
	"github.com/brigd/brig/jailer/jailspec"
	"golang.org/x/sys/unix"
)

// A Jailer makes FreeBSD jails. It is for any number of goroutines.
type Jailer struct {
	cfg     Config
	program string // brig-jail
	release string // kern.osrelease
	host    *jailspec.Host
	noLinux error // why programs for Linux can't run here; nil: they can

	mu       sync.Mutex // guards what follows
	children map[int]bool
}

// oldest is the first release with all that is used here, kern.osreldate's form: file mounts of nullfs came with 13.2.
const oldest = 1302000

// defaultRuleset is brig's devfs ruleset where none is configured.
const defaultRuleset = 2718

// New looks at the host, loads what modules it can, and makes brig's devfs ruleset.
func New(cfg Config) (*Jailer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if cfg.Shim, err = filepath.Abs(cfg.Shim); err != nil {
		return nil, err
	}
	if cfg.Ruleset == 0 {
		cfg.Ruleset = defaultRuleset
	}
	if len(cfg.RunDir) > maxRunDir {
		return nil, errs.New(errs.Invalid, "the run directory %s is too long: a socket's path has at most 103 bytes", cfg.RunDir)
	}
	j := &Jailer{cfg: cfg, program: cfg.Runtime, children: map[int]bool{}}
	if cfg.Runtime == "" || cfg.Runtime == "auto" {
		j.program = filepath.Join(filepath.Dir(cfg.Shim), "brig-jail")
	}
	for _, p := range []string{cfg.Shim, j.program} {
		if _, err := os.Stat(p); err != nil {
			return nil, errs.Wrap(err, "find %s", filepath.Base(p))
		}
	}
	release, err := unix.SysctlUint32("kern.osreldate")
	if err != nil {
		return nil, err
	}
	if release < oldest {
		return nil, errs.New(errs.NotImplemented, "this is FreeBSD %d: brig needs 13.2 (%d) or later", release, oldest)
	}
	j.release, _ = unix.Sysctl("kern.osrelease")
	if err := loadModules(ctx, "nullfs", "fdescfs", "tmpfs"); err != nil {
		return nil, err
	}
	j.noLinux = loadModules(ctx, "linux64", "linprocfs", "linsysfs")
	if j.noLinux != nil {
		cfg.Log.Warn("programs for Linux can't run here", "err", j.noLinux)
	}
	racct, _ := unix.SysctlUint32("kern.racct.enable") // a kernel without RACCT has no such name
	j.host = &jailspec.Host{Release: int(release), Linux: j.noLinux == nil, Racct: racct == 1, Ruleset: cfg.Ruleset, HardLimits: hardLimits(), Kept: kept, CPUs: runtime.NumCPU()}
	return j, ensureRuleset(ctx, cfg.Ruleset)
}

// maxRunDir leaves room in sun_path, 104 bytes, for a run directory's name and the socket's.
const maxRunDir = 70

// loadModules loads kernel modules that are not there yet. All that fails is named.
func loadModules(ctx context.Context, names ...string) error {
	var failed []error
	for _, name := range names {
		if _, err := host.Run(ctx, "kldload", "-n", name); err != nil {
			if _, err2 := host.Run(ctx, "kldstat", "-q", "-m", name); err2 != nil { // it may be part of the kernel
				failed = append(failed, errs.Wrap(err, "load kernel module %s", name))
			}
		}
	}
	return errors.Join(failed...)
}

// ensureRuleset makes devfs ruleset n hold exactly jailspec.Devices.
func ensureRuleset(ctx context.Context, n int) error {
	set := fmt.Sprint(n)
	out, err := host.Run(ctx, "devfs", "rule", "-s", set, "show")
	if err == nil && slices.Equal(jailspec.ParseRuleset(string(out)), jailspec.Devices) {
		return nil
	}
	if _, err := host.Run(ctx, "devfs", "rule", "-s", set, "delset"); err != nil {
		return errs.Wrap(err, "make devfs ruleset %d anew", n)
	}
	for _, rule := range jailspec.Devices {
		if _, err := host.Run(ctx, append([]string{"devfs", "rule", "-s", set, "add"}, strings.Fields(rule)...)...); err != nil {
			return errs.Wrap(err, "make devfs ruleset %d", n)
		}
	}
	out, err = host.Run(ctx, "devfs", "rule", "-s", set, "show")
	if err == nil && !slices.Equal(jailspec.ParseRuleset(string(out)), jailspec.Devices) {
		err = errs.New(errs.Internal, "devfs ruleset %d came to be %q", n, out)
	}
	return err
}

func hardLimits() map[string]uint64 {
	out := map[string]uint64{}
	for name, sysctl := range map[string]string{"RLIMIT_NOFILE": "kern.maxfilesperproc", "RLIMIT_NPROC": "kern.maxprocperuid"} {
		if n, err := unix.SysctlUint32(sysctl); err == nil {
			out[name] = uint64(n)
		}
	}
	return out
}

// kept lists the restrictions of the mount that path lies on; none for a path that can't be looked at.
func kept(path string) (out []string) {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return nil
	}
	for _, o := range []struct {
		flag uint64
		name string
	}{{unix.MNT_RDONLY, "ro"}, {unix.MNT_NOSUID, "nosuid"}, {unix.MNT_NOEXEC, "noexec"}} {
		if st.Flags&o.flag != 0 {
			out = append(out, o.name)
		}
	}
	return out
}

// Warnings names what of a spec this host can't give.
func (j *Jailer) Warnings(spec *brig.Spec) []string { return jailspec.Warnings(j.host, spec) }

// Expect has nothing to prepare.
func (j *Jailer) Expect() {}

// Close has nothing to end.
func (j *Jailer) Close() error { return nil }

// Facts returns what docker info shows.
func (j *Jailer) Facts() Facts {
	f := Facts{
		RuntimeName: "brig-jail", RuntimePath: j.program, RuntimeVersion: j.release, CgroupVersion: "", CgroupDriver: "none",
		MemoryLimit: j.host.Racct, CPUCfsPeriod: j.host.Racct, CPUCfsQuota: j.host.Racct, CPUSet: true, PidsLimit: j.host.Racct,
	}
	if !j.host.Racct {
		f.Warnings = append(f.Warnings, "WARNING: No limits of memory, CPU and processes: set kern.racct.enable=1 in /boot/loader.conf and boot")
	}
	if j.noLinux != nil {
		f.Warnings = append(f.Warnings, "WARNING: No programs for Linux: "+j.noLinux.Error())
	}
	return f
}

// Stats takes a sample from rctl(8)'s accounts. See runtime.Gauge.
func (j *Jailer) Stats(ctx context.Context, h *brig.Handle) (brig.Sample, error) {
	name := j.nameOf(h)
	if _, err := jailctl.ID(name); err != nil {
		return brig.Sample{}, errs.New(errs.NotFound, "jail %s has ended: %w", name, err)
	}
	if !j.host.Racct {
		return brig.Sample{}, errs.New(errs.NotImplemented, "the kernel does not count what jails use: set kern.racct.enable=1 in /boot/loader.conf and boot")
	}
	use, err := jailctl.Usage(name)
	if err != nil {
		return brig.Sample{}, err
	}
	return jailspec.Sample(use, runtime.NumCPU(), memory()), nil
}

func memory() uint64 {
	n, _ := unix.SysctlUint64("hw.physmem")
	return n
}
