// Package ocispec turns a brig.Jail into an OCI runtime configuration: one pure rule per file, applied in one listed order. What the
// rules need to know of the host and of the container's own files comes in as values, so that each rule can be tested as a table.
package ocispec

import (
	"github.com/brigd/brig/internal/brig"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Host is what the rules know of the host and of the daemon.
type Host struct {
	Caps        []string          // that the daemon itself holds, with CAP_
	HardLimits  map[string]uint64 // the daemon's hard limits by RLIMIT_ name; consulted only without CAP_SYS_RESOURCE
	OomScoreAdj int               // the daemon's own
	CgroupV2    bool
	Controllers []string // v1's names; on v2 blkio stands for io, and devices and freezer are always there
	Swap        bool     // swap can be limited
	BlkioWeight bool     // a disk is shared by weight
	// Device looks at a device node; Devices lists all of the host's. Errors are the host's.
	Device  func(path string) (specs.LinuxDevice, error)
	Devices func() ([]specs.LinuxDevice, error)
	InDir   func(dir string) ([]string, error) // paths of the device nodes in a directory; nil if dir is none
	// MountOf finds the mount that a path lies on: where it is mounted, and the optional fields of its line in mountinfo (proc(5)).
	MountOf func(path string) (mountPoint, optional string, err error)
	// Kept lists what a bind mount of a path must keep of the mount that the path lies on: ro, nosuid, nodev, noexec. crun would drop them.
	Kept func(path string) []string
	Runc bool   // the OCI runtime is runc or the like, and not crun
	Shim string // static program that serves as init
}

// Input is one jail and what belongs to it.
type Input struct {
	Jail         *brig.Jail
	Host         *Host
	User         User
	PIDOf, IPCOf int    // host PIDs of the processes to share namespaces with; 0: none
	Shm          string // directory on the host that is bound to /dev/shm; "": the jail gets one of its own
	CgroupPath   string // the jail's own, absolute in each hierarchy
}

// A rule adds its part to the configuration. Warnings say what the host can't give; errors are Invalid.
type rule func(in *Input, s *specs.Spec) (warnings []string, err error)

// rules lists all rules in order: later ones may look at what earlier ones set.
var rules = []rule{process, env, capabilities, namespaces, mounts, devices, paths, resources, ulimits, oomScore, sysctls, initProcess, seccomp}

// Build applies all rules.
func Build(in *Input) (*specs.Spec, []string, error) {
	s := &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: in.Jail.Root, Readonly: in.Jail.Spec.ReadOnly},
		Process: &specs.Process{},
		Linux:   &specs.Linux{CgroupsPath: in.CgroupPath, Resources: &specs.LinuxResources{}},
	}
	var warnings []string
	for _, r := range rules {
		w, err := r(in, s)
		if err != nil {
			return nil, nil, err
		}
		warnings = append(warnings, w...)
	}
	return s, warnings, nil
}

// Warnings tells what of a spec this host can't give, before there is a jail: what Build would warn of. What is wrong with the spec
// is left for Build to say.
func Warnings(host *Host, spec *brig.Spec) []string {
	in := &Input{Jail: &brig.Jail{Spec: *spec}, Host: host}
	s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
	var all []string
	for _, r := range []rule{capabilities, resources, ulimits, oomScore} {
		if w, err := r(in, s); err == nil {
			all = append(all, w...)
		}
	}
	return all
}

// process sets what the main process is, its environment, capabilities and limits apart.
func process(in *Input, s *specs.Spec) ([]string, error) {
	j := in.Jail
	p := s.Process
	p.Args = j.Args
	p.Cwd = Cwd(j.Cwd)
	p.Terminal = j.Spec.TTY
	p.NoNewPrivileges = j.Spec.NoNewPrivileges
	p.User = in.User.Spec()
	s.Annotations = j.Spec.Annotations
	if j.Spec.UTSMode != "host" && j.Pod == nil { // a pod's is set, and an app may have changed it
		s.Hostname = j.Hostname
	}
	return nil, nil
}

// Cwd makes a working directory absolute.
func Cwd(dir string) string {
	if dir == "" {
		return "/"
	}
	if dir[0] != '/' {
		return "/" + dir
	}
	return dir
}
