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
	"github.com/brigd/brig/internal/kmod"
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
	kernel  kmod.Kernel

	mu       sync.Mutex // guards what follows
	children map[int]bool
	devices  sync.Mutex // held while the devfs ruleset is looked at or made
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
	j := &Jailer{cfg: cfg, program: cfg.Runtime, kernel: kmod.Host(cfg.LoadModules), children: map[int]bool{}}
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
	if err := j.kernel.Need(ctx, Modules...); err != nil {
		return nil, errs.Wrap(err, "prepare for jails")
	}
	if err := j.linux(ctx); err != nil {
		cfg.Log.Warn("programs for Linux can't run here", "err", err)
	}
	vnet, _ := unix.SysctlUint32("kern.features.vimage")
	j.host = &jailspec.Host{
		Release: int(release), Racct: racct(), Ruleset: cfg.Ruleset, Shared: cfg.SharedNetwork, VNET: vnet == 1, HardLimits: hardLimits(), Kept: kept, SecureLevel: secureLevel,
		IsFile: isFile, FileMounts: jailspec.SafeFileMounts(int(release)), CPUs: runtime.NumCPU(),
	}
	return j, j.ensureRuleset(ctx)
}

// secureLevel is the host's, which may rise at any time: 3 where it can't be read.
func secureLevel() int {
	n, err := unix.SysctlUint32("kern.securelevel")
	if err != nil {
		return 3
	}
	return int(int32(n))
}

// racct reports whether the kernel counts what jails use. The setting is a bool of one byte; a kernel without RACCT has no such name.
func racct() bool {
	b, err := unix.SysctlRaw("kern.racct.enable")
	return err == nil && slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
}

// maxRunDir leaves room in sun_path, 104 bytes, for a run directory's name and the socket's.
const maxRunDir = 70

// Modules are those that every jail needs, LinuxModules those that programs for Linux need beside them.
var (
	Modules      = []string{"nullfs", "fdescfs", "tmpfs"}
	LinuxModules = []string{"linux64", "linprocfs", "linsysfs"}
)

// linux says why programs for Linux can't run here; nil: they can. It loads what is missing, also what was not there when brigd started.
func (j *Jailer) linux(ctx context.Context) error {
	if err := j.kernel.Need(ctx, LinuxModules...); err != nil {
		return err
	}
	return j.brand(ctx)
}

// brand has the kernel take a program that doesn't say what system it is for, such as a static one of Go's, for Linux's. rc.d/linux does the same.
// Nobody's choice is changed: unset it is -1.
func (j *Jailer) brand(ctx context.Context) error {
	const name, unset, linux = "kern.elf64.fallback_brand", 1<<32 - 1, "3" // ELFOSABI_LINUX
	n, err := unix.SysctlUint32(name)
	if err != nil || n != unset {
		return nil
	}
	if !j.kernel.Allowed {
		j.cfg.Log.Warn("programs for Linux that don't say so, such as static ones, can't run: "+name+" is not set (sysctl "+name+"="+linux+")", "load-modules", false)
		return nil
	}
	_, err = host.Run(ctx, "sysctl", name+"="+linux)
	return errs.Wrap(err, "let programs for Linux run that don't say so")
}

// ensureRuleset makes brig's devfs ruleset hold exactly jailspec.Devices. It refuses one with others' rules in it: a container would see what
// those show.
func (j *Jailer) ensureRuleset(ctx context.Context) error {
	j.devices.Lock()
	defer j.devices.Unlock()
	set := fmt.Sprint(j.cfg.Ruleset)
	rules, err := j.ruleset(ctx)
	switch {
	case err != nil:
		return err
	case slices.Equal(rules, jailspec.Devices):
		return nil
	case !jailspec.Ours(rules):
		return errs.New(errs.Unavailable, "devfs ruleset %s has rules that are not brig's (%s): choose another number with devfs-ruleset, or remove them (devfs rule -s %s delset)",
			set, strings.Join(rules, ", "), set)
	}
	if _, err := host.Run(ctx, "devfs", "rule", "-s", set, "delset"); err != nil {
		return errs.Wrap(err, "make devfs ruleset %s anew", set)
	}
	for _, rule := range jailspec.Devices {
		if _, err := host.Run(ctx, append([]string{"devfs", "rule", "-s", set, "add"}, strings.Fields(rule)...)...); err != nil {
			return errs.Wrap(err, "make devfs ruleset %s", set)
		}
	}
	rules, err = j.ruleset(ctx)
	if err == nil && !slices.Equal(rules, jailspec.Devices) {
		err = errs.New(errs.Internal, "devfs ruleset %s came to be %q", set, rules)
	}
	return err
}

// ruleset is what is in brig's devfs ruleset; nothing if nobody has made one.
func (j *Jailer) ruleset(ctx context.Context) ([]string, error) {
	out, err := host.Run(ctx, "devfs", "rule", "-s", fmt.Sprint(j.cfg.Ruleset), "show")
	return jailspec.ParseRuleset(string(out)), errs.Wrap(err, "look at devfs ruleset %d", j.cfg.Ruleset)
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

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && !st.IsDir()
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
	for _, name := range LinuxModules {
		if !j.kernel.Has(name) {
			f.Warnings = append(f.Warnings, "WARNING: No programs for Linux: kernel module "+name+" is missing")
		}
	}
	return f
}

// Stats takes a sample from rctl(8)'s accounts, the jail's processes and the counters of its network stack. See runtime.Gauge.
func (j *Jailer) Stats(ctx context.Context, h *brig.Handle) (brig.Sample, error) {
	name := j.nameOf(h)
	jid, err := jailctl.ID(name)
	if err != nil {
		return brig.Sample{}, errs.New(errs.NotFound, "jail %s has ended: %w", name, err)
	}
	if !j.host.Racct {
		return brig.Sample{}, errs.New(errs.NotImplemented, "the kernel does not count what jails use: set kern.racct.enable=1 in /boot/loader.conf and boot")
	}
	a := jailspec.Account{CPUs: runtime.NumCPU(), Memory: memory()}
	if a.Usage, err = jailctl.Usage(name); err == nil {
		a.Limits, err = jailctl.Limits(name)
	}
	if err == nil {
		a.Procs, err = jailctl.Inside(jid)
	}
	if err != nil {
		return brig.Sample{}, errs.Wrap(err, "look at what jail %s uses", name)
	}
	if a.Links, err = j.links(jailspec.Holder(name)); err != nil {
		return brig.Sample{}, errs.Wrap(err, "look at the interfaces of jail %s", name)
	}
	return jailspec.Sample(&a), nil
}

// links are the interfaces of the network stack that the jail holder has, as the host's ends of them count.
func (j *Jailer) links(holder string) (out []jailctl.Link, err error) {
	holder, _, _ = strings.Cut(holder, ".")
	id, ours := strings.CutPrefix(holder, "brignet-"+j.cfg.Instance+"-")
	if !ours {
		return nil, nil
	}
	all, err := jailctl.Links()
	for _, l := range all {
		if !strings.HasPrefix(l.Name, "v"+j.cfg.Instance[:4]+"-") {
			continue
		}
		text, e := jailctl.Description(l.Name)
		m, ok := brig.ParseLinkMark(text)
		if e != nil {
			err = errors.Join(err, e)
		} else if ok && m.Instance == j.cfg.Instance && m.Container == id {
			out = append(out, l.Opposite(m.Iface))
		}
	}
	return out, err
}

func memory() uint64 {
	n, _ := unix.SysctlUint64("hw.physmem")
	return n
}
