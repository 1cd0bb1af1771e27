package jailspec

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/jailctl"
	"github.com/brigd/brig/jailer/ocispec"
)

const id = brig.ID("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")

func host() *Host {
	return &Host{Release: 1302001, Racct: true, VNET: true, Ruleset: 71, CPUs: 2, HardLimits: map[string]uint64{"RLIMIT_NOFILE": 5000}}
}

func input(edit func(in *Input)) *Input {
	in := &Input{
		Jail: &brig.Jail{
			ID: id, Dir: "/run/j", Root: "/store/r", Hostname: "0123456789ab", Netns: brig.Netns{Kind: brig.NetnsPath, Path: "net"},
			Args: []string{"sh", "-c", "true"}, Env: []string{"A=b"}, Cwd: "work",
		},
		Instance: "abcd1234", Host: host(), User: ocispec.User{UID: 1, GID: 2, Groups: []uint32{2, 3}, Home: "/home"}, Linux: true,
	}
	if edit != nil {
		edit(in)
	}
	return in
}

// lines writes a bundle as the golden files have it.
func lines(b *Bundle, warnings []string) string {
	var s strings.Builder
	for _, p := range b.Params {
		switch p.Kind {
		case Bool:
			fmt.Fprintln(&s, p.Name)
		case Int:
			fmt.Fprintf(&s, "%s=%d\n", p.Name, p.Int)
		default:
			fmt.Fprintf(&s, "%s=%q\n", p.Name, p.Str)
		}
	}
	for _, l := range b.Links {
		fmt.Fprintf(&s, "link %s at %s\n", l.From, l.Target)
	}
	for _, m := range b.Mounts {
		from := m.From
		if m.Sub != "" {
			from += " (" + m.Sub + " by way of " + m.Stage + ")"
		}
		fmt.Fprintf(&s, "mount %s %s on %s %v\n", m.Type, from, m.Target, m.Options)
	}
	for _, r := range b.Rules {
		fmt.Fprintln(&s, "rctl", r)
	}
	p, _ := json.Marshal(b.Main)
	fmt.Fprintf(&s, "cpus %q\nmain %s\n", b.CPUs, p)
	for _, w := range warnings {
		fmt.Fprintln(&s, "warning:", w)
	}
	return s.String()
}

func TestBundles(t *testing.T) {
	for name, edit := range map[string]func(in *Input){
		"linux":   nil,
		"freebsd": func(in *Input) { in.Linux = false },
		"host": func(in *Input) {
			in.Jail.Netns, in.Jail.Spec.UTSMode, in.Jail.Spec.IpcMode = brig.Netns{Kind: brig.NetnsHost}, "host", "host"
		},
		"alone": func(in *Input) {
			in.Jail.Netns, in.Jail.Spec.IpcMode = brig.Netns{Kind: brig.NetnsPrivate}, "none"
		},
		"pod": func(in *Input) {
			in.Jail.Pod, in.Shm = &brig.Sandbox{ID: "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210", Netns: in.Jail.Netns}, "/pods/f/shm"
		},
		"podhost": func(in *Input) { // whose network is the host's
			in.Jail.Netns = brig.Netns{Kind: brig.NetnsHost, Path: "brigpod-abcd1234-f"}
			in.Jail.Pod = &brig.Sandbox{ID: "f", Netns: in.Jail.Netns}
		},
		"files": func(in *Input) {
			in.Host.IsFile = func(path string) bool { return path == "/c/hosts" || path == "/c/resolv.conf" }
			in.Jail.Mounts = []brig.JailMount{
				{Type: brig.MountBind, Source: "/c/hosts", Target: "/etc/hosts", Options: []string{"rbind", "rw"}},
				{Type: brig.MountBind, Source: "/c", Target: "/c", Options: []string{"rbind"}},
				{Type: brig.MountBind, Source: "/c", Sub: "a/b", Target: "/sub", Options: []string{"rbind", "ro"}},
				{Type: brig.MountBind, Source: "/c/resolv.conf", Target: "/etc/resolv.conf", Options: []string{"rbind", "rw"}},
			}
		},
		"shared": func(in *Input) { in.Host.Shared = true },
		"novnet": func(in *Input) {
			in.Jail.Netns, in.Host.VNET, in.Linux = brig.Netns{Kind: brig.NetnsPrivate}, false, false
		},
		"privileged": func(in *Input) { in.Jail.Spec.Privileged = true },
		"bare": func(in *Input) {
			in.Jail.Spec.CapDrop, in.Jail.Spec.NoNewPrivileges, in.Jail.Spec.ReadOnly = []string{"ALL"}, true, true
		},
		"full": func(in *Input) {
			s := &in.Jail.Spec
			s.TTY, s.ShmSize, s.Domainname = true, 1<<20, "example.com"
			s.CapAdd, s.CapDrop = []string{"SYS_ADMIN", "ipc_lock", "NET_ADMIN"}, []string{"NET_RAW", "CHOWN"}
			s.Limits = brig.Limits{Memory: 64 << 20, MemorySwap: 128 << 20, Pids: 10, NanoCPUs: 15e8, CpusetCPUs: "0-1", CPUShares: 512, BlkioThrottle: []brig.ThrottleDevice{{What: "write_bps", Path: "/dev/ada0", Rate: 1 << 20}}}
			s.Ulimits = []brig.Ulimit{{Name: "nofile", Soft: 100, Hard: 6000}, {Name: "core", Soft: 0, Hard: -1}, {Name: "nice", Soft: 1, Hard: 1}}
			s.Seccomp, s.OomScoreAdj = "{}", 5
			in.Host.Kept = func(path string) []string { return map[string][]string{"/srv/x": {"ro"}}[path] }
			in.Jail.Mounts = []brig.JailMount{
				{Type: brig.MountBind, Source: "/srv/x", Target: "/x/", Options: []string{"rbind", "rprivate"}},
				{Type: brig.MountBind, Source: "/srv/shm", Target: "/dev/shm"},
				{Type: brig.MountTmpfs, Target: "/tmp", Options: []string{"size=64m", "noexec", "nosuid", "nodev", "uid=5"}},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, warnings, err := Build(input(edit))
			if err != nil {
				t.Fatal(err)
			}
			got := lines(b, warnings)
			file := filepath.Join("testdata", name+".txt")
			if os.Getenv("BRIG_UPDATE") != "" {
				os.WriteFile(file, []byte(got), 0o644)
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, p := range b.Params {
				if strings.HasPrefix(p.Name, "allow.mount") {
					t.Errorf("%s is given: nobody may mount in a jail", p.Name)
				}
			}
		})
	}
}

// Whatever is asked for, no jail may mount or make jails, and each permission is set one way or the other.
func TestNoJailMounts(t *testing.T) {
	for _, c := range append([]string{"", "ALL"}, ocispec.AllCaps...) {
		for _, privileged := range []bool{false, true} {
			for _, drop := range [][]string{nil, {"ALL"}} {
				b, _, err := Build(input(func(in *Input) {
					in.Jail.Spec.CapDrop, in.Jail.Spec.Privileged = drop, privileged
					if c != "" {
						in.Jail.Spec.CapAdd = []string{c}
					}
				}))
				if err != nil {
					t.Fatal(err)
				}
				seen := map[string]int{}
				for _, p := range b.Params {
					if name, is := strings.CutPrefix(p.Name, "allow."); is {
						seen[strings.TrimPrefix(name, "no")]++
						if strings.HasPrefix(name, "mount") || name == "quotas" {
							t.Errorf("%s gives %s", c, p.Name)
						}
					}
					if p.Name == "children.max" && p.Int != 0 {
						t.Errorf("%s lets the jail have %d children", c, p.Int)
					}
				}
				for _, name := range []string{"set_hostname", "raw_sockets", "chflags", "quotas", "socket_af", "mlock", "reserved_ports", "read_msgbuf", "unprivileged_proc_debug", "suser"} {
					if seen[name] != 1 {
						t.Errorf("with %s, allow.%s is set %d times", c, name, seen[name])
					}
				}
			}
		}
	}
}

// jail_set(2) refuses a level below the host's, which then holds.
func TestSecureLevel(t *testing.T) {
	for _, c := range []struct {
		host int
		add  []string
		want string
	}{
		{-1, nil, "3"}, {3, nil, "3"}, {-1, []string{"NET_ADMIN"}, "2"}, {1, []string{"NET_ADMIN"}, "2"}, {2, []string{"NET_ADMIN"}, ""}, {3, []string{"NET_ADMIN"}, ""},
		{-1, []string{"LINUX_IMMUTABLE"}, ""}, {2, []string{"ALL"}, ""},
	} {
		b, _, err := Build(input(func(in *Input) { in.Jail.Spec.CapAdd, in.Host.SecureLevel = c.add, func() int { return c.host } }))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, p := range b.Params {
			if p.Name == "securelevel" {
				got += fmt.Sprint(p.Int)
			}
		}
		if got != c.want {
			t.Errorf("host %d, --cap-add %v: level %q, want %q", c.host, c.add, got, c.want)
		}
	}
}

// Nobody could prepare the network stack of a jail whose level is high, or whose root is nobody special.
func TestStages(t *testing.T) {
	for kind, want := range map[brig.NetnsKind]string{brig.NetnsPrivate: "allow.nosuser securelevel", brig.NetnsHost: ""} {
		b, _, err := Build(input(func(in *Input) { in.Jail.Netns, in.Jail.Spec.CapDrop = brig.Netns{Kind: kind}, []string{"ALL"} }))
		if err != nil {
			t.Fatal(err)
		}
		first, then := b.Stages()
		var names []string
		for _, p := range then {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != want || len(first)+len(then) != len(b.Params) || slices.ContainsFunc(first, func(p Param) bool { return slices.Contains(names, p.Name) }) {
			t.Errorf("network %v: %q come later, want %q; %d and %d of %d", kind, got, want, len(first), len(then), len(b.Params))
		}
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(in *Input)
		kind errs.Kind
	}{
		"pid host":      {func(in *Input) { in.Jail.Spec.PidMode = "host" }, errs.NotImplemented},
		"pid container": {func(in *Input) { in.Jail.Spec.PidMode = "container:x" }, errs.NotImplemented},
		"ipc container": {func(in *Input) { in.Jail.Spec.IpcMode = "container:x" }, errs.NotImplemented},
		"sysctl":        {func(in *Input) { in.Jail.Spec.Sysctls = map[string]string{"net.x": "1"} }, errs.NotImplemented},
		"device":        {func(in *Input) { in.Jail.Spec.Devices = []brig.Device{{Host: "/dev/x"}} }, errs.NotImplemented},
		"capability":    {func(in *Input) { in.Jail.Spec.CapAdd = []string{"CAP_X"} }, errs.Invalid},
		"ulimit":        {func(in *Input) { in.Jail.Spec.Ulimits = []brig.Ulimit{{Name: "x"}} }, errs.Invalid},
		"ulimit order":  {func(in *Input) { in.Jail.Spec.Ulimits = []brig.Ulimit{{Name: "nofile", Soft: 2, Hard: 1}} }, errs.Invalid},
		"propagation": {func(in *Input) {
			in.Jail.Mounts = []brig.JailMount{{Type: brig.MountBind, Source: "/a", Target: "/b", Options: []string{"rshared"}}}
		}, errs.NotImplemented},
		"option": {func(in *Input) {
			in.Jail.Mounts = []brig.JailMount{{Type: brig.MountTmpfs, Target: "/b", Options: []string{"huge=always"}}}
		}, errs.NotImplemented},
		"name": {func(in *Input) { in.Jail.Netns.Path = strings.Repeat("n", 200) }, errs.Invalid},
	} {
		if _, _, err := Build(input(c.edit)); !errs.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoRacct(t *testing.T) {
	l := &brig.Limits{Memory: 1 << 20}
	h := host()
	h.Racct = false
	rules, warnings, err := Rules("j", l, h)
	if err != nil || len(rules) != 0 || len(warnings) != 1 || !strings.Contains(warnings[0], "kern.racct.enable=1") {
		t.Errorf("%v %v %v", rules, warnings, err)
	}
	if rules, warnings, err = Rules("j", &brig.Limits{}, h); err != nil || len(rules)+len(warnings) != 0 {
		t.Errorf("without limits: %v %v %v", rules, warnings, err)
	}
}

func TestCPUPercent(t *testing.T) {
	for _, c := range []struct {
		l    brig.Limits
		want int64
	}{{brig.Limits{NanoCPUs: 1e9}, 100}, {brig.Limits{NanoCPUs: 5e6}, 1}, {brig.Limits{CPUQuota: 25_000}, 25}, {brig.Limits{CPUQuota: 1, CPUPeriod: 3}, 34}, {brig.Limits{CPUQuota: -1}, 0}} {
		if got := cpuPercent(&c.l); got != c.want {
			t.Errorf("%+v: %d", c.l, got)
		}
	}
}

func TestIov(t *testing.T) {
	for _, c := range []struct {
		p    Param
		name string
		len  int
	}{{Param{Name: "persist", Kind: Bool}, "persist\x00", 0}, {Param{Name: "n", Kind: Int, Int: -1}, "n\x00", 4}, {Param{Name: "s", Kind: String, Str: ""}, "s\x00", 1}} {
		name, value := c.p.Iov()
		if string(name) != c.name || len(value) != c.len || (c.p.Kind == Bool) != (value == nil) {
			t.Errorf("%+v: %q %q", c.p, name, value)
		}
	}
	m := Mount{Type: "nullfs", From: "/a", Target: "/b", Options: [][2]string{{"ro", ""}, {"size", "5"}}}
	var got []string
	for _, b := range m.Iov("/r/b") {
		got = append(got, string(b))
	}
	if want := []string{"fstype\x00", "nullfs\x00", "fspath\x00", "/r/b\x00", "target\x00", "/a\x00", "ro\x00", "", "size\x00", "5\x00"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// What the apps of a pod share is their parent jail's, which may do no less than any of them.
func TestPodJail(t *testing.T) {
	vnet := true
	made := func(n brig.Netns) (out string, at brig.Netns) {
		s := &brig.Sandbox{ID: "f", Netns: n}
		for _, argv := range PodJail("abcd1234", vnet, s) {
			out += strings.Join(argv, " ") + "\n"
		}
		return out, s.Netns
	}
	got, at := made(brig.Netns{Kind: brig.NetnsPath, Path: "net"})
	if got != "jail -m name=net sysvmsg=new sysvsem=new sysvshm=new\n" || at.Path != "net" {
		t.Error(got, at)
	}
	rights := "jail -c name=brigpod-abcd1234-f path=/ persist children.max=100 enforce_statfs=0 sysvmsg=new sysvsem=new sysvshm=new allow.raw_sockets allow.mlock " +
		"allow.chflags allow.read_msgbuf allow.reserved_ports allow.set_hostname allow.unprivileged_proc_debug allow.quotas allow.socket_af allow.suser "
	got, at = made(brig.Netns{Kind: brig.NetnsPrivate})
	if got != rights+"vnet\njexec brigpod-abcd1234-f ifconfig lo0 inet 127.0.0.1/8 up\n" || at != (brig.Netns{Kind: brig.NetnsPath, Path: "brigpod-abcd1234-f"}) {
		t.Error(got, at)
	}
	vnet = false
	if got, _ := made(brig.Netns{Kind: brig.NetnsPrivate}); got != rights+"ip4=disable ip6=disable\n" {
		t.Error(got)
	}
	got, at = made(brig.Netns{Kind: brig.NetnsHost})
	if got != rights+"ip4=inherit ip6=inherit\n" || at != (brig.Netns{Kind: brig.NetnsHost, Path: "brigpod-abcd1234-f"}) {
		t.Error(got, at)
	}
}

func TestExec(t *testing.T) {
	in := input(nil)
	p, err := Exec(in, brig.ExecSpec{Args: []string{"ls"}, Env: []string{"A=c", "B=d"}, TTY: true, WorkingDir: "/w"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"PATH=" + ocispec.DefaultPath, "HOSTNAME=0123456789ab", "TERM=xterm", "A=c", "B=d", "HOME=/home"}; !slices.Equal(p.Env, want) || p.Cwd != "/w" || !p.TTY || p.UID != 1 {
		t.Errorf("%+v", p)
	}
	if _, err := Exec(in, brig.ExecSpec{Args: []string{"ls"}, Privileged: true}); !errs.Is(err, errs.NotImplemented) {
		t.Errorf("privileged: %v", err)
	}
}

func TestDevices(t *testing.T) {
	if Devices[0] != "hide" {
		t.Error("a ruleset that doesn't begin with hide shows everything")
	}
	var out strings.Builder
	for i, r := range Devices {
		fmt.Fprintf(&out, "%d %s\n", 100*(i+1), strings.ReplaceAll(r, " ", "  "))
	}
	if got := ParseRuleset(out.String()); !slices.Equal(got, Devices) {
		t.Errorf("%q", got)
	}
	if got := ParseRuleset(""); got != nil {
		t.Errorf("an empty ruleset: %q", got)
	}
}

// A file of a user's can't be mounted by a kernel that may panic of it.
func TestFileMounts(t *testing.T) {
	in := input(func(in *Input) {
		in.Host.IsFile = func(string) bool { return true }
		in.Jail.Mounts = []brig.JailMount{{Type: brig.MountBind, Source: "/c/x", Target: "/x"}}
	})
	if _, _, err := Build(in); !errs.Is(err, errs.NotImplemented) {
		t.Error(err)
	}
	in.Host.FileMounts = SafeFileMounts(1500000)
	b, _, err := Build(in)
	if err != nil || b.Mounts[len(b.Mounts)-1].Target != "/x" || len(b.Links) > 0 || SafeFileMounts(1302001) {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestSample(t *testing.T) {
	a := &Account{
		Usage: map[string]uint64{"cputime": 3, "memoryuse": 4096, "nthr": 5}, CPUs: 2, Memory: 1 << 30,
		Procs: []jailctl.Proc{{User: 2_000_001, Kernel: 5}, {Kernel: 1_500_000}}, Links: []jailctl.Link{{Name: "eth0", RxBytes: 7, TxDropped: 9}},
	}
	s := Sample(a)
	if s.CPU.Total != 3_500_006_000 || s.CPU.Kernel != 1_500_005_000 || s.CPU.Online != 2 || s.Memory.Usage != 4096 || s.Memory.Limit != 1<<30 || s.Pids.Current != 5 || s.Pids.Limit != 0 {
		t.Errorf("%+v", s)
	}
	if n := s.Networks["eth0"]; len(s.Networks) != 1 || n.RxBytes != 7 || n.TxDropped != 9 {
		t.Errorf("%+v", s.Networks)
	}
	a.Procs, a.Limits = nil, map[string]uint64{"memoryuse": 1 << 20, "maxproc": 30}
	if s = Sample(a); s.CPU.Total != 3e9 || s.Memory.Limit != 1<<20 || s.Pids.Limit != 30 {
		t.Errorf("%+v", s)
	}
}

func TestOurRuleset(t *testing.T) {
	show := ""
	for i, r := range Devices {
		show += fmt.Sprintf("%d %s\n", 100*(i+1), r)
	}
	for _, c := range []struct {
		name string
		show string
		want bool
	}{
		{"whole", show, true},
		{"none", "", true},
		{"cut off", strings.Join(strings.SplitAfter(show, "\n")[:5], ""), true},
		{"one more", show + "9000 path bpf unhide\n", false},
		{"another first", "100 path da0 unhide\n" + show, false},
		{"the system's 4", "100 include 1\n200 include 2\n", false},
		{"hide all, of another", "100 hide\n200 path da* unhide\n", false},
	} {
		if got := Ours(ParseRuleset(c.show)); got != c.want {
			t.Errorf("%s: ours %v", c.name, got)
		}
	}
}

func TestHolder(t *testing.T) {
	for name, want := range map[string]string{"brig-1-2": "", "brignet-1-2.brig-1-3": "brignet-1-2"} {
		if got := Holder(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
