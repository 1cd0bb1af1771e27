package jailer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/ocispec"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hostFacts reads what the rules need to know of this process and this host.
func hostFacts(g *cgroups, shim string) (*ocispec.Host, error) {
	h := &ocispec.Host{
		CgroupV2: g.v2, Controllers: g.controllers(), Swap: g.swap(), BlkioWeight: g.has("blkio") && sharesByWeight(), Shim: shim, HardLimits: map[string]uint64{},
		Device: device, Devices: hostDevices, InDir: devicesIn, MountOf: mountOf, Kept: keptOptions,
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return nil, errs.Wrap(err, "read the daemon's capabilities")
	}
	for n, name := range ocispec.AllCaps {
		if data[n/32].Effective&(1<<(n%32)) != 0 {
			h.Caps = append(h.Caps, name)
		}
	}
	for name, n := range map[string]int{
		"AS": unix.RLIMIT_AS, "CORE": unix.RLIMIT_CORE, "CPU": unix.RLIMIT_CPU, "DATA": unix.RLIMIT_DATA, "FSIZE": unix.RLIMIT_FSIZE,
		"LOCKS": unix.RLIMIT_LOCKS, "MEMLOCK": unix.RLIMIT_MEMLOCK, "MSGQUEUE": unix.RLIMIT_MSGQUEUE, "NICE": unix.RLIMIT_NICE,
		"NOFILE": unix.RLIMIT_NOFILE, "NPROC": unix.RLIMIT_NPROC, "RSS": unix.RLIMIT_RSS, "RTPRIO": unix.RLIMIT_RTPRIO,
		"RTTIME": unix.RLIMIT_RTTIME, "SIGPENDING": unix.RLIMIT_SIGPENDING, "STACK": unix.RLIMIT_STACK,
	} {
		var l unix.Rlimit
		if err := unix.Getrlimit(n, &l); err != nil {
			return nil, fmt.Errorf("read limit %s: %w", name, err)
		}
		h.HardLimits["RLIMIT_"+name] = l.Max
	}
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err == nil {
		h.OomScoreAdj, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	return h, err
}

// sharesByWeight reports whether some disk's scheduler looks at cgroups' weights (cgroup-v1/blkio-controller.rst, cgroup-v2.rst "IO Interface
// Files"): bfq, cfq on old kernels, or v2's cost model.
func sharesByWeight() bool {
	files, _ := filepath.Glob("/sys/block/*/queue/scheduler")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && (strings.Contains(string(b), "[bfq]") || strings.Contains(string(b), "[cfq]")) {
			return true
		}
	}
	b, err := os.ReadFile("/sys/fs/cgroup/io.cost.qos")
	return err == nil && strings.Contains(string(b), "enable=1")
}

// device describes a node on the host; links are followed.
func device(path string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	d := specs.LinuxDevice{Path: path, Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev)))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return d, errors.New("not a device node")
	}
	mode, uid, gid := os.FileMode(st.Mode&0o7777), st.Uid, st.Gid
	d.FileMode, d.UID, d.GID = &mode, &uid, &gid
	return d, nil
}

// mountOf finds the mount that a path lies on; links are followed.
func mountOf(path string) (mountPoint, optional string, err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", "", err
	}
	list, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return "", "", err
	}
	for _, m := range list { // of several on one place the last is on top
		if len(m.Mountpoint) >= len(mountPoint) {
			mountPoint, optional = m.Mountpoint, m.Optional
		}
	}
	return mountPoint, optional, nil
}

// keptOptions lists the restrictions of the mount that path lies on (statfs(2)); none for a path that can't be looked at.
func keptOptions(path string) (out []string) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil
	}
	for _, o := range []struct {
		flag int64
		name string
	}{{unix.ST_RDONLY, "ro"}, {unix.ST_NOSUID, "nosuid"}, {unix.ST_NODEV, "nodev"}, {unix.ST_NOEXEC, "noexec"}} {
		if st.Flags&o.flag != 0 {
			out = append(out, o.name)
		}
	}
	return out
}

// hostDevices lists all nodes under /dev, but what each container has of its own.
func hostDevices() ([]specs.LinuxDevice, error) {
	paths, err := nodes("/dev", "pts", "shm", "fd", "mqueue", "console", "ptmx")
	if err != nil {
		return nil, err
	}
	var out []specs.LinuxDevice
	for _, p := range paths {
		if d, err := device(p); err == nil {
			out = append(out, d)
		}
	}
	return out, nil
}

// devicesIn lists the nodes in dir and below; nil if dir is no directory.
func devicesIn(dir string) ([]string, error) {
	if st, err := os.Stat(dir); err != nil {
		return nil, errors.Unwrap(err)
	} else if !st.IsDir() {
		return nil, nil
	}
	return nodes(dir)
}

func nodes(dir string, skip ...string) (out []string, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if path == dir {
				return err
			}
			return nil // it went away meanwhile
		}
		for _, s := range skip {
			if path == filepath.Join(dir, s) {
				if e.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		if e.Type()&fs.ModeDevice != 0 {
			out = append(out, path)
		}
		return nil
	})
	return out, err
}

// lookPath finds a program in PATH and the directories of root's own programs.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return filepath.Abs(name)
	}
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin") {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: not installed", name)
}
