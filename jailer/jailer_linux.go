package jailer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
	"github.com/brigd/brig/jailer/ocispec"
	"github.com/brigd/brig/jailer/shim"
)

// A Jailer drives OCI containers. It is for any number of goroutines.
type Jailer struct {
	cfg      Config
	runtime  ociRuntime
	groups   *cgroups
	host     *ocispec.Host
	expected *expecter

	starting sync.RWMutex // read-held while a runtime makes cgroups: their parent must not go meanwhile
	pods     sync.Mutex   // held while sandboxes, and the directory that they are in, come and go
	dropping sync.Mutex   // held by whoever looks whether that parent can go; taken before starting

	mu       sync.Mutex // guards what follows
	filters  filters
	children map[int]bool // shims this process has started and not yet reaped
}

// ociRuntime is the program that runs bundles.
type ociRuntime struct {
	name, path, version string
	crun                bool   // by what it says, not by its file's name
	hide                string // mount point that must be out of its sight
	sealed              *sealed
}

// probeLimit bounds the attempt to start a first container, in New.
const probeLimit = 20 * time.Second

// New looks at the host and chooses the OCI runtime by starting a container that does nothing.
func New(cfg Config) (*Jailer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
	defer cancel()
	if _, err := os.Stat(cfg.Shim); err != nil {
		return nil, errs.Wrap(err, "find brig-shim")
	}
	var err error
	if cfg.Shim, err = filepath.Abs(cfg.Shim); err != nil {
		return nil, err
	}
	j := &Jailer{cfg: cfg, children: map[int]bool{}, filters: filters{map[profileKey]string{}, map[string]profileKey{}}}
	if j.groups, err = detectCgroups("/proc/self/mountinfo"); err != nil {
		return nil, err
	}
	j.expected = newExpecter(j.groups, "/proc/self/cgroup")
	if j.host, err = hostFacts(j.groups, cfg.Shim); err != nil {
		return nil, err
	}
	candidates := []string{cfg.Runtime}
	if cfg.Runtime == "" || cfg.Runtime == "auto" {
		candidates = []string{"crun", "runc"}
	}
	var failed []error
	for _, name := range candidates {
		err := j.try(ctx, name)
		if err == nil {
			cfg.Log.Info("OCI runtime chosen", "name", j.runtime.name, "path", j.runtime.path, "version", j.runtime.version)
			return j, nil
		}
		failed = append(failed, err)
		cfg.Log.Debug("OCI runtime can't start here", "name", name, "error", err)
	}
	return nil, fmt.Errorf("no OCI runtime starts on this host: %w", errors.Join(failed...))
}

// Warnings names what of a spec this host can't give.
func (j *Jailer) Warnings(spec *brig.Spec) []string { return ocispec.Warnings(j.host, spec) }

// try makes name the runtime if a container starts with it.
func (j *Jailer) try(ctx context.Context, name string) error {
	path, err := lookPath(name)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	out, err := host.Run(ctx, path, "--version")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(out), "\n")
	rt := ociRuntime{name: filepath.Base(path), path: path, sealed: &sealed{}}
	if f := strings.Fields(first); len(f) > 0 {
		rt.version = f[len(f)-1]
	}
	if rt.crun = strings.HasPrefix(first, "crun "); rt.crun {
		rt.sealed.path = path
		rt.hide = j.groups.hybrid // crun gives up where v1 and v2 are mounted side by side
	}
	j.runtime, j.host.Runc = rt, !rt.crun
	return j.probe(ctx)
}

// probe runs brig-shim itself, which is static, in a container with nothing else in it.
func (j *Jailer) probe(ctx context.Context) (err error) {
	parent := j.cfg.RunDir
	if parent != "" {
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(parent, ".probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "root")
	if err = os.Mkdir(root, 0o755); err != nil {
		return err
	}
	h, _, err := j.Create(ctx, &brig.Jail{
		ID: brig.NewID(), Dir: filepath.Join(dir, "run"), Root: root, Hostname: "probe", Args: []string{"/brig-shim", shim.ModeProbe},
		Mounts: []brig.JailMount{{Type: brig.MountBind, Source: j.cfg.Shim, Target: "/brig-shim", Options: []string{"ro"}}},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Destroy(ctx, h)) }()
	if err = j.Start(ctx, h); err != nil {
		return err
	}
	exit, err := j.Wait(ctx, h)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("%s: the probe ended with %d %s", j.runtime.path, exit.Code, exit.Error)
	}
	return err
}

// Facts returns what docker info shows.
func (j *Jailer) Facts() Facts {
	f := Facts{
		RuntimeName: j.runtime.name, RuntimePath: j.runtime.path, RuntimeVersion: j.runtime.version,
		CgroupVersion: "1", CgroupDriver: "cgroupfs", Controllers: j.groups.controllers(), InitBinary: ocispec.InitPath,
		SecurityOptions: []string{"name=seccomp,profile=builtin"},
		MemoryLimit:     j.groups.has("memory"), SwapLimit: j.host.Swap, CPUSet: j.groups.has("cpuset"), PidsLimit: j.groups.has("pids"),
		CPUCfsPeriod: j.groups.has("cpu"), CPUCfsQuota: j.groups.has("cpu"), CPUShares: j.groups.has("cpu"), Blkio: j.groups.has("blkio"),
	}
	f.OomKillDisable = f.MemoryLimit && !j.groups.v2
	if j.groups.v2 {
		f.CgroupVersion = "2"
		f.SecurityOptions = append(f.SecurityOptions, "name=cgroupns")
	}
	for _, w := range []struct {
		have bool
		text string
	}{
		{f.MemoryLimit, "WARNING: No memory limit support"}, {f.SwapLimit, "WARNING: No swap limit support"},
		{f.CPUCfsQuota, "WARNING: No cpu cfs quota support"}, {f.CPUShares, "WARNING: No cpu shares support"},
		{f.CPUSet, "WARNING: No cpuset support"}, {f.PidsLimit, "WARNING: No pids limit support"}, {f.Blkio, "WARNING: No blkio limit support"},
	} {
		if !w.have {
			f.Warnings = append(f.Warnings, w.text)
		}
	}
	return f
}
