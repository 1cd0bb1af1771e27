package ocispec

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// testHost lacks CAP_SYS_RESOURCE and the blkio controller.
func testHost() *Host {
	return &Host{
		Caps:       slices.DeleteFunc(slices.Clone(AllCaps), func(c string) bool { return c == "CAP_SYS_RESOURCE" }),
		HardLimits: map[string]uint64{"RLIMIT_NOFILE": 20000}, OomScoreAdj: -10,
		Controllers: []string{"cpu", "cpuset", "memory", "pids", "devices", "freezer"}, Shim: "/lib/brig-shim",
		Device: func(p string) (specs.LinuxDevice, error) {
			if !strings.HasPrefix(p, "/dev/") {
				return specs.LinuxDevice{}, errors.New("no such file or directory")
			}
			return specs.LinuxDevice{Path: p, Type: "c", Major: 9, Minor: 7}, nil
		},
		Devices: func() ([]specs.LinuxDevice, error) { return []specs.LinuxDevice{{Path: "/dev/all"}}, nil },
		Kept: func(p string) []string {
			return map[string][]string{"/restricted": {"ro", "nosuid"}}[p]
		},
		MountOf: func(p string) (string, string, error) {
			return "/m", map[string]string{"/shared": "shared:7", "/slave": "master:7"}[p], nil
		},
		InDir: func(p string) ([]string, error) {
			if p == "/dev/dir" {
				return []string{"/dev/dir/a", "/dev/dir/b"}, nil
			}
			return nil, nil
		},
	}
}

func build(t *testing.T, set func(*brig.Jail)) (*specs.Spec, []string, error) {
	t.Helper()
	j := &brig.Jail{ID: "x", Root: "/r", Hostname: "h", Args: []string{"true"}}
	if set != nil {
		set(j)
	}
	in := &Input{Jail: j, Host: testHost(), CgroupPath: "/p/x"}
	if j.PIDOf != nil {
		in.PIDOf = j.PIDOf.InitPID
	}
	return Build(in)
}

func TestCaps(t *testing.T) {
	for _, c := range []struct {
		name      string
		add, drop []string
		want      int
		has, not  string
	}{
		{"default", nil, nil, 14, "CAP_KILL", "CAP_SYS_ADMIN"},
		{"add", []string{"sys_admin"}, nil, 15, "CAP_SYS_ADMIN", ""},
		{"drop", nil, []string{"CAP_KILL"}, 13, "", "CAP_KILL"},
		{"all", []string{"ALL"}, nil, len(AllCaps), "CAP_BPF", ""},
		{"all but", []string{"all"}, []string{"BPF"}, len(AllCaps) - 1, "", "CAP_BPF"},
		{"none but", []string{"KILL"}, []string{"ALL"}, 1, "CAP_KILL", "CAP_CHOWN"},
	} {
		got, _, err := Caps(false, c.add, c.drop)
		if err != nil || len(got) != c.want || c.has != "" && !slices.Contains(got, c.has) || slices.Contains(got, c.not) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	if _, _, err := Caps(false, []string{"nosuch"}, nil); !errs.Is(err, errs.Invalid) || err.Error() != `invalid CapAdd: unknown capability: "CAP_NOSUCH"` {
		t.Error(err)
	}
}

func TestEnv(t *testing.T) {
	for _, c := range []struct {
		name string
		tty  bool
		own  []string
		want string
	}{
		{"bare", false, nil, "PATH=" + DefaultPath + " HOSTNAME=h HOME=/root"},
		{"tty", true, []string{"A=1"}, "PATH=" + DefaultPath + " HOSTNAME=h TERM=xterm A=1 HOME=/root"},
		{"own win in place", true, []string{"TERM=vt100", "PATH=/x", "HOME=/h"}, "PATH=/x HOSTNAME=h TERM=vt100 HOME=/h"},
		{"removed", true, []string{"A=1", "TERM", "A"}, "PATH=" + DefaultPath + " HOSTNAME=h HOME=/root"},
	} {
		if got := strings.Join(Env("h", c.tty, "/root", c.own), " "); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestFindUser(t *testing.T) {
	passwd := "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n"
	group := "root:x:0:\nweb:x:1001:\nwheel:x:10:web\nmore:x:20:\n"
	for _, c := range []struct {
		user   string
		add    []string
		want   string // uid gid groups home
		errHas string
	}{
		{"", nil, "0 0 [0] /root", ""},
		{"web", nil, "1000 1001 [1001 10] /home/web", ""},
		{"1000", nil, "1000 1001 [1001 10] /home/web", ""},
		{"web:more", nil, "1000 20 [20] /home/web", ""},
		{"4711:42", []string{"more", "77"}, "4711 42 [42 20 77] /", ""},
		{"nosuch", nil, "", "unable to find user nosuch: no matching entries in passwd file"},
		{"web:nosuch", nil, "", "unable to find group nosuch: no matching entries in group file"},
	} {
		u, err := FindUser(c.user, c.add, strings.NewReader(passwd), strings.NewReader(group))
		if c.errHas != "" {
			if !errs.Is(err, errs.Invalid) || err.Error() != c.errHas {
				t.Errorf("%s: %v", c.user, err)
			}
			continue
		}
		if got := sprint(u.UID, u.GID, u.Groups, u.Home); err != nil || got != c.want {
			t.Errorf("%s: %s, %v", c.user, got, err)
		}
	}
	if u, err := FindUser("5", nil, nil, nil); err != nil || u.UID != 5 {
		t.Errorf("without files: %+v %v", u, err)
	}
}

func TestBuild(t *testing.T) {
	yes := true
	for _, c := range []struct {
		name  string
		set   func(*brig.Jail)
		check func(*specs.Spec) bool
		warn  string
	}{
		{"namespaces", nil, func(s *specs.Spec) bool { return nsNames(s) == "mount uts pid ipc network" }, ""},
		{"host namespaces", func(j *brig.Jail) {
			j.Netns.Kind, j.Spec.PidMode, j.Spec.IpcMode, j.Spec.UTSMode = brig.NetnsHost, "host", "host", "host"
		}, func(s *specs.Spec) bool { return nsNames(s) == "mount" && s.Hostname == "" && len(s.Linux.Sysctl) == 0 }, ""},
		{"shared pid", func(j *brig.Jail) { j.PIDOf = &brig.Handle{InitPID: 5}; j.Spec.Init = &yes }, func(s *specs.Spec) bool {
			return s.Linux.Namespaces[2].Path == "/proc/5/ns/pid" && s.Process.Args[0] == "true"
		}, ""},
		{"netns", func(j *brig.Jail) { j.Netns = brig.Netns{Kind: brig.NetnsPath, Path: "/n"} }, func(s *specs.Spec) bool { return s.Linux.Namespaces[4].Path == "/n" }, ""},
		{"init", func(j *brig.Jail) { j.Spec.Init = &yes }, func(s *specs.Spec) bool {
			return strings.Join(s.Process.Args, " ") == "/sbin/docker-init -- true" && s.Mounts[len(s.Mounts)-1].Source == "/lib/brig-shim"
		}, ""},
		{"masked by default", nil, func(s *specs.Spec) bool { return len(s.Linux.MaskedPaths) > 5 && len(s.Linux.ReadonlyPaths) == 5 }, ""},
		{"masked none", func(j *brig.Jail) { j.Spec.MaskedPaths, j.Spec.ReadonlyPaths = []string{}, []string{} }, func(s *specs.Spec) bool { return len(s.Linux.MaskedPaths) == 0 }, ""},
		{"privileged", func(j *brig.Jail) { j.Spec.Privileged = true }, func(s *specs.Spec) bool {
			return s.Linux.Seccomp == nil && len(s.Linux.MaskedPaths) == 0 && s.Linux.Devices[0].Path == "/dev/all" && !slices.Contains(mountAt(s, "/sys").Options, "ro")
		}, "lacks CAP_SYS_RESOURCE"},
		{"not root", nil, func(s *specs.Spec) bool { return len(s.Process.Capabilities.Effective) == 14 }, ""},
		{"own /dev/shm", func(j *brig.Jail) {
			j.Mounts = []brig.JailMount{{Type: brig.MountBind, Source: "/s", Target: "/dev/shm", Options: []string{"ro"}}}
		}, func(s *specs.Spec) bool {
			m := mountAt(s, "/dev/shm")
			return m.Source == "/s" && strings.Join(m.Options, ",") == "rbind,ro,rprivate"
		}, ""},
		{"read-only", func(j *brig.Jail) { j.Spec.ReadOnly = true }, func(s *specs.Spec) bool {
			return s.Root.Readonly && !slices.Contains(mountAt(s, "/dev").Options, "ro")
		}, ""},
		{"restricted mount", func(j *brig.Jail) {
			j.Mounts = []brig.JailMount{{Type: brig.MountBind, Source: "/restricted", Target: "/t", Options: []string{"rbind", "rprivate", "ro"}}}
		}, func(s *specs.Spec) bool {
			return strings.Join(mountAt(s, "/t").Options, ",") == "rbind,rprivate,ro,nosuid"
		}, ""},
		{"shared mount", func(j *brig.Jail) {
			j.Mounts = []brig.JailMount{{Type: brig.MountBind, Source: "/shared", Target: "/s", Options: []string{"rshared"}}}
		}, func(s *specs.Spec) bool { return s.Linux.RootfsPropagation == "shared" }, ""},
		{"memory", func(j *brig.Jail) { j.Spec.Limits.Memory = 5 << 20 }, func(s *specs.Spec) bool {
			return *s.Linux.Resources.Memory.Limit == 5<<20 && s.Linux.Resources.Memory.Swap == nil
		}, ""},
		{"swap", func(j *brig.Jail) { j.Spec.Limits.Memory, j.Spec.Limits.MemorySwap = 5<<20, 6<<20 }, func(s *specs.Spec) bool { return true }, "Memory limited without swap"},
		{"cpus", func(j *brig.Jail) { j.Spec.Limits.NanoCPUs = 15e8 }, func(s *specs.Spec) bool { return *s.Linux.Resources.CPU.Quota == 150000 }, ""},
		{"pids unlimited", func(j *brig.Jail) { j.Spec.Limits.Pids = -1 }, func(s *specs.Spec) bool { return s.Linux.Resources.Pids == nil }, ""},
		{"missing controller", func(j *brig.Jail) { j.Spec.Limits.BlkioWeight = 100 }, func(s *specs.Spec) bool { return s.Linux.Resources.BlockIO == nil }, "Block I/O"},
		{"ulimit", func(j *brig.Jail) { j.Spec.Ulimits = []brig.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}} }, func(s *specs.Spec) bool {
			return s.Process.Rlimits[0] == specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}
		}, ""},
		{"ulimit too high", func(j *brig.Jail) { j.Spec.Ulimits = []brig.Ulimit{{Name: "nofile", Soft: -1, Hard: -1}} }, func(s *specs.Spec) bool {
			return s.Process.Rlimits[0].Hard == 20000 && s.Process.Rlimits[0].Soft == 20000
		}, "unlimited reduced to 20000"},
		{"oom score", func(j *brig.Jail) { j.Spec.OomScoreAdj = 100 }, func(s *specs.Spec) bool { return *s.Process.OOMScoreAdj == 100 }, ""},
		{"oom score too low", func(j *brig.Jail) { j.Spec.OomScoreAdj = -500 }, func(s *specs.Spec) bool { return *s.Process.OOMScoreAdj == -10 }, "-500 raised to -10"},
		{"device", func(j *brig.Jail) {
			j.Spec.Devices = []brig.Device{{Host: "/dev/x", Container: "/dev/y", Permissions: "r"}}
		}, func(s *specs.Spec) bool {
			r := s.Linux.Resources.Devices
			return s.Linux.Devices[0].Path == "/dev/y" && r[len(r)-1].Access == "r" && *r[len(r)-1].Major == 9 && !r[0].Allow
		}, ""},
		{"directory of devices", func(j *brig.Jail) { j.Spec.Devices = []brig.Device{{Host: "/dev/dir", Container: "/d"}} }, func(s *specs.Spec) bool {
			return len(s.Linux.Devices) == 2 && s.Linux.Devices[1].Path == "/d/b"
		}, ""},
		{"sysctl", func(j *brig.Jail) { j.Spec.Sysctls = map[string]string{"net.core.somaxconn": "5"} }, func(s *specs.Spec) bool { return s.Linux.Sysctl["net.core.somaxconn"] == "5" }, ""},
	} {
		s, warnings, err := build(t, c.set)
		if err != nil || !c.check(s) || strings.Contains(strings.Join(warnings, "\n"), c.warn) == false || c.warn == "" && len(warnings) > 0 {
			t.Errorf("%s: %v, warnings %q", c.name, err, warnings)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for want, set := range map[string]func(*brig.Jail){
		"invalid ulimit type: nosuch": func(j *brig.Jail) { j.Spec.Ulimits = []brig.Ulimit{{Name: "nosuch"}} },
		"ulimit soft limit must be":   func(j *brig.Jail) { j.Spec.Ulimits = []brig.Ulimit{{Name: "core", Soft: 2, Hard: 1}} },
		"range for oom score adj":     func(j *brig.Jail) { j.Spec.OomScoreAdj = 2000 },
		"is not in a separate kernel": func(j *brig.Jail) { j.Spec.Sysctls = map[string]string{"vm.swappiness": "1"} },
		"host network namespace": func(j *brig.Jail) {
			j.Netns.Kind, j.Spec.Sysctls = brig.NetnsHost, map[string]string{"net.x": "1"}
		},
		`custom device "/x": no such file`:  func(j *brig.Jail) { j.Spec.Devices = []brig.Device{{Host: "/x"}} },
		"invalid device cgroup rule format": func(j *brig.Jail) { j.Spec.DeviceRules = []string{"z 1:1 r"} },
		"Decoding seccomp profile failed":   func(j *brig.Jail) { j.Spec.Seccomp = "{" },
	} {
		if _, _, err := build(t, set); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func nsNames(s *specs.Spec) string {
	var out []string
	for _, n := range s.Linux.Namespaces {
		out = append(out, string(n.Type))
	}
	return strings.Join(out, " ")
}

func mountAt(s *specs.Spec, at string) specs.Mount {
	for _, m := range s.Mounts {
		if m.Destination == at {
			return m
		}
	}
	return specs.Mount{}
}

func sprint(a ...any) string { return strings.TrimSpace(fmt.Sprintln(a...)) }

func TestPropagation(t *testing.T) {
	for _, c := range []struct{ source, mode, root, err string }{
		{"/shared", "shared", "shared", ""},
		{"/shared", "rslave", "rslave", ""},
		{"/slave", "slave", "rslave", ""},
		{"/slave", "rshared", "", "path /slave is mounted on /m but it is not a shared mount"},
		{"/plain", "rprivate", "", ""},
		{"/plain", "shared", "", "path /plain is mounted on /m but it is not a shared mount"},
		{"/plain", "rslave", "", "path /plain is mounted on /m but it is not a shared or slave mount"},
	} {
		s, _, err := build(t, func(j *brig.Jail) {
			j.Mounts = []brig.JailMount{{Type: brig.MountBind, Source: c.source, Target: "/t", Options: []string{"rbind", c.mode}}}
		})
		switch {
		case c.err != "":
			if !errs.Is(err, errs.Invalid) || err.Error() != c.err {
				t.Errorf("%+v: %v", c, err)
			}
		case err != nil || s.Linux.RootfsPropagation != c.root:
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSockets(t *testing.T) {
	s, _, err := build(t, func(j *brig.Jail) {
		j.Env, j.Spec.Sockets = []string{"LISTEN_FDS=9", "HOME=/"}, []brig.Port{{Number: 1, Proto: "tcp"}, {Number: 2, Proto: "udp"}}
	})
	if got := strings.Join(s.Process.Env[2:], " "); err != nil || got != "LISTEN_FDS=2 HOME=/ LISTEN_PID=1" {
		t.Errorf("%s, %v", got, err)
	}
}
