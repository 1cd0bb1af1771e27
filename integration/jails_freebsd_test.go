package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

// onHost runs a program of the host's that must succeed.
func onHost(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// jailOf is the full name of a container's jail, "" if there is none.
func jailOf(t *testing.T, s *testbed.Server, id string) string {
	t.Helper()
	instance, err := s.Instance()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(onHost(t, "jls", "name")) {
		if strings.HasSuffix(name, "brig-"+instance+"-"+id) || strings.Contains(name, ".brig-"+instance+"-"+id[:16]) {
			return name
		}
	}
	return ""
}

// A container is a jail of its own in that of its network stack, without any of the permissions that lead out of it.
func TestContainerIsAJail(t *testing.T) {
	own(t)
	id := container(t, image("busybox"), "sleep", "600")
	name := jailOf(t, bed.server, id)
	match(t, "the jail", name, `^brignet-[0-9a-f]+-[0-9a-f]{16}\.brig-`)
	pid := inspect(t, id, "{{.State.Pid}}")
	equal(t, "the jail of its process", onHost(t, "ps", "-o", "jail=", "-p", pid), name)
	for _, permission := range []string{"allow.mount", "allow.mount.nullfs", "allow.mount.devfs", "allow.mount.procfs", "allow.mount.tmpfs", "allow.mount.zfs", "allow.raw_sockets", "allow.chflags", "allow.quotas"} {
		want := "false"
		if permission == "allow.raw_sockets" {
			want = "true" // Docker gives NET_RAW
		}
		equal(t, permission, onHost(t, "jls", "-j", name, permission), want)
	}
	equal(t, "jails that it may make", onHost(t, "jls", "-j", name, "children.max"), "0")
	equal(t, "its security level", onHost(t, "jls", "-j", name, "securelevel"), "3")
	equal(t, "what it sees of mounts", onHost(t, "jls", "-j", name, "enforce_statfs"), "1")
	match(t, "its processes", ok(t, "exec", id, "ps"), `(?s)sleep 600`)
	if out := ok(t, "exec", id, "ps"); strings.Contains(out, "brigd") {
		t.Errorf("the host's processes are seen:\n%s", out)
	}
	ok(t, "rm", "-f", id)
	equal(t, "the jail after its removal", jailOf(t, bed.server, id), "")
}

// With no capability at all the jail's root is nobody special, and still starts what is asked for, as any user and with a network of its own.
func TestNoCapabilities(t *testing.T) {
	for _, network := range []string{"none", "bridge"} {
		id := container(t, "--cap-drop", "ALL", "--network", network, image("busybox"), "sleep", "600")
		equal(t, "root in "+network, ok(t, "exec", id, "sh", "-c", "id -u; touch /x; chown 5 /x 2>&1 || true"), "0\nchown: /x: Operation not permitted")
		equal(t, "a user in "+network, ok(t, "exec", "-u", "7:8", id, "sh", "-c", "id -u; id -g"), "7\n8")
		equal(t, "lo0 in "+network, ok(t, "exec", id, "sh", "-c", "ifconfig lo | grep -c 127.0.0.1"), "1")
	}
}

// What Linux's namespaces, cgroups and /proc have no counterpart of is refused with words, or warned of; nothing is left behind.
func TestWhatJailsLack(t *testing.T) {
	other := container(t, "--ipc", "shareable", image("busybox"), "sleep", "600")
	profile := tempFile(t, "seccomp.json", `{"defaultAction":"SCMP_ACT_ALLOW"}`)
	for words, flags := range map[string][]string{ // the docker command takes --device from servers on Linux and Windows alone
		"--pid host: a jail never sees processes outside of it":           {"--pid", "host"},
		"a jail never sees another jail's processes":                      {"--pid", "container:" + other},
		"jails can't share their System V IPC with each other":            {"--ipc", "container:" + other},
		"--sysctl: the names are Linux's, and a jail has none of its own": {"--sysctl", "net.ipv4.ip_forward=0"},
		"unknown server OS: freebsd":                                      {"--device", "/dev/null:/dev/mine"},
		"--device: devices are given by brig's devfs ruleset alone":       {"--device-cgroup-rule", "c 1:3 r"},
	} {
		before := ok(t, "ps", "-aq")
		r := docker(t, append(append([]string{"run", "--rm"}, flags...), image("busybox"), "true")...)
		if r.Code != 125 || !strings.Contains(r.Err, strings.TrimSpace(words)) {
			t.Errorf("%s\nwant exit code 125 and %q", r, words)
		}
		equal(t, strings.Join(flags, " ")+": containers", ok(t, "ps", "-aq"), before)
	}
	for words, flags := range map[string][]string{
		"FreeBSD has no seccomp":                          {"--security-opt", "seccomp=" + profile},
		"FreeBSD has no OOM score":                        {"--oom-score-adj", "500"},
		"A privileged jail may neither mount nor use the": {"--privileged"},
		"Jails can't give ":                               {"--cap-add", "SYS_MODULE"},
		"FreeBSD has no cgroups":                          {"--cgroup-parent", "/mine"},
	} {
		r := docker(t, append(append([]string{"run", "--rm"}, flags...), image("busybox"), "echo", "ran")...)
		if r.Code != 0 || r.Out != "ran\n" || !strings.Contains(r.Err, words) {
			t.Errorf("%s\nwant %q on stderr", r, words)
		}
	}
}

// Limits are rules of rctl, exceeded here: memory, processes, and files by ulimit.
func TestLimitsByRctl(t *testing.T) {
	own(t)
	id := container(t, "-m", "64m", "--pids-limit", "20", "--cpus", "0.5", image("busybox"), "sleep", "600")
	name := jailOf(t, bed.server, id)
	rules := onHost(t, "rctl", "-h", "jail:"+name)
	for _, rule := range []string{`memoryuse:sigkill=64M`, `maxproc:deny=20`, `pcpu:deny=50`} {
		match(t, "rules", rules, rule)
	}
	equal(t, "exit code of one that wants more memory", docker(t, "run", "--rm", "-m", "16m", image("busybox"), "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1000").Code, 137) // for longer than the second that the kernel looks after
	r := docker(t, "run", "--rm", "--pids-limit", "4", image("busybox"), "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; echo all")
	match(t, "processes", r.Err, "can't fork")
	equal(t, "processors", ok(t, "run", "--rm", "--cpuset-cpus", "0", image("busybox"), "nproc"), "1")
	ok(t, "update", "-m", "128m", "--memory-swap", "128m", id)
	match(t, "rules after an update", onHost(t, "rctl", "-h", "jail:"+name), `memoryuse:sigkill=128M`)
	ok(t, "rm", "-f", id)
	if out := onHost(t, "rctl"); strings.Contains(out, name) {
		t.Errorf("rules of a removed container: %s", out)
	}
}

// An image for FreeBSD itself runs beside those for Linux.
func TestNativeImage(t *testing.T) {
	img, err := images.Native("sh", "cat", "echo", "sleep", "ps", "ls", "hostname", "kill", "stty", "dd")
	if err != nil {
		t.Fatal(err)
	}
	ref := fresh("native")
	if err := (images.Set{ref + ":latest": img}).Push(bed.ctx, bed.reg, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", image(ref)) })
	ok(t, "pull", "-q", image(ref))
	equal(t, "its system", inspect(t, image(ref), "{{.Os}}"), "freebsd")
	equal(t, "run", ok(t, "run", "--rm", image(ref), "sh", "-c", "echo $((6*7)); exit 0"), "42")
	equal(t, "exit code", docker(t, "run", "--rm", image(ref), "sh", "-c", "exit 42").Code, 42)
	equal(t, "no such program", docker(t, "run", "--rm", image(ref), "nosuch").Code, 127)
	equal(t, "input", dockerIn(t, "given", "run", "--rm", "-i", image(ref), "cat").Out, "given")
	equal(t, "hostname", ok(t, "run", "--rm", "--hostname", "native.example", image(ref), "hostname"), "native.example")
	id := container(t, image(ref), "sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done")
	logged(t, id, "up")
	match(t, "exec", ok(t, "exec", id, "ps", "-axo", "command"), `sleep 0\.1`)
	match(t, "devices", ok(t, "exec", id, "ls", "/dev"), `(?s)\bnull\b.*\bzero\b`)
	match(t, "as a user", ok(t, "exec", "-u", "app", id, "sh", "-c", "echo x >/root/x 2>&1 || echo refused"), "refused")
	match(t, "a terminal", ok(t, "exec", "-t", id, "stty", "-a"), "speed")
	ok(t, "stop", id)
	equal(t, "stopped", inspect(t, id, "{{.State.ExitCode}}")+" "+ok(t, "logs", id), "3 up\nbye")
	match(t, "the log's end", ok(t, "logs", "--tail", "1", id), "^bye$")
}

// On a pool of ZFS each layer, container and volume is a dataset or a snapshot; brigd killed in between finds all again, and in the end only the
// parent is left.
func TestZFSPool(t *testing.T) {
	own(t)
	pool := "brigit" + strconv.Itoa(os.Getpid())
	file := filepath.Join(t.TempDir(), "vdev")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 512<<20); err != nil {
		t.Fatal(err)
	}
	onHost(t, "zpool", "create", "-O", "mountpoint=none", pool, file)
	t.Cleanup(func() {
		if out, err := exec.Command("zpool", "destroy", "-f", pool).CombinedOutput(); err != nil {
			t.Errorf("zpool destroy: %v: %s", err, out)
		}
	})
	onHost(t, "zfs", "create", pool+"/brig")
	datasets := func(kind string) (n int) {
		t.Helper()
		for line := range strings.Lines(onHost(t, "zfs", "list", "-H", "-r", "-o", "name", "-t", "filesystem,snapshot", pool+"/brig") + "\n") {
			if regexp.MustCompile(`/` + kind + `/[0-9a-f]{16}(@l\d+)?\n$`).MatchString(line) {
				n++
			}
		}
		return n
	}
	t.Run("life", func(t *testing.T) { // brigd ends before the pool does
		s, cli := daemon(t, "--storage", "zfs", "--zfs-parent", pool+"/brig")
		equal(t, "driver", done(t, cli, "info", "-f", "{{.Driver}}"), "zfs")
		done(t, cli, "pull", "-q", image("layers"))
		equal(t, "a layer over another", done(t, cli, "run", "--rm", image("layers"), "cat", "/data/b"), "b2")
		id := done(t, cli, "run", "-d", "-v", "kept:/kept", image("busybox"), "sh", "-c", "echo mine >/own; echo data >/kept/f; exec sleep 600")
		eventually(t, "its file", func() (bool, string) {
			r := dockerOn(t, cli, nil, "exec", id, "cat", "/kept/f")
			return r.Out == "data\n", r.String()
		})
		equal(t, "datasets of containers", datasets("c"), 1)
		equal(t, "datasets of volumes", datasets("v"), 1)
		match(t, "diff", done(t, cli, "diff", id), `(?m)^A /own$`)
		s.Kill()
		start(t, s)
		equal(t, "after a kill", done(t, cli, "exec", id, "cat", "/own", "/kept/f"), "mine\ndata")
		done(t, cli, "commit", id, "committed")
		equal(t, "of the commit", done(t, cli, "run", "--rm", "committed", "cat", "/own"), "mine")
		if r := dockerOn(t, cli, nil, "run", "--rm", "--storage-opt", "size=4m", image("busybox"), "sh", "-c", "head -c 20000000 /dev/urandom >/f"); r.Code == 0 {
			t.Errorf("20 MB fit into 4: %s", r)
		}
		done(t, cli, "rm", "-f", "-v", id)
		done(t, cli, "volume", "rm", "kept")
		done(t, cli, "rmi", "committed", image("layers"), image("busybox"))
		eventually(t, "nothing is left in the pool", func() (bool, string) {
			n := []int{datasets("i"), datasets("c"), datasets("v")}
			return fmt.Sprint(n) == "[0 0 0]", fmt.Sprint(n)
		})
	})
}
