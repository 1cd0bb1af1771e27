package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// kept is a container of the tests of policies across lives of brigd: how it is made, what is done to it, and what becomes of it.
type kept struct {
	name   string
	flags  string
	script string
	do     []string // docker commands on it, before brigd ends
	want   string   // state and exit code when all is over
	count  string   // of restarts; "": any
}

const forever = "exec sleep 600"

// Docker's table: what ended unseen is restarted by every policy, what a user stopped only by always, what never ran by none.
func policyTable() []kept {
	return []kept{
		{"no", "", forever, nil, "exited LOST", "0"},
		{"no-paused", "", forever, []string{"pause"}, "exited LOST", "0"},
		{"onfailure", "--restart=on-failure", forever, nil, "running 0", "0"},
		{"onfailure-success", "--restart=on-failure", "true", nil, "exited 0", "0"},
		{"onfailure-used", "--restart=on-failure:1", "exit 3", nil, "exited 3", "1"},
		{"onfailure-stopped", "--restart=on-failure", forever, []string{"stop -t 0"}, "exited 137", "0"},
		{"unless", "--restart=unless-stopped", forever, nil, "running 0", "0"},
		{"unless-stopped", "--restart=unless-stopped", forever, []string{"stop -t 0"}, "exited 137", "0"},
		{"unless-killed", "--restart=unless-stopped", forever, []string{"kill"}, "exited 137", "0"},
		{"unless-started", "--restart=unless-stopped", forever, []string{"stop -t 0", "start"}, "running 0", "0"},
		{"unless-turning", "--restart=unless-stopped", "exit 4", nil, "restarting 4", ""},
		{"unless-halted", "--restart=unless-stopped", "sleep 0.3; exit 4", []string{"stop -t 0"}, "exited", ""},
		{"always", "--restart=always", forever, nil, "running 0", "0"},
		{"always-paused", "--restart=always", forever, []string{"pause"}, "running 0", "0"},
		{"always-stopped", "--restart=always", forever, []string{"stop -t 0"}, "running 0", "0"},
		{"updated", "", forever, []string{"update --restart=always"}, "running 0", "0"},
		{"downdated", "--restart=always", forever, []string{"update --restart=no"}, "exited LOST", "0"},
		{"removed", "--rm", forever, nil, "", ""},
	}
}

func makeKept(t *testing.T, cli testbed.CLI) {
	t.Helper()
	var all sync.WaitGroup
	for _, k := range policyTable() {
		all.Go(func() {
			args := append([]string{"run", "-d", "--name", k.name}, strings.Fields(k.flags)...)
			if r := dockerOn(t, cli, nil, append(args, image("busybox"), "sh", "-c", k.script)...); r.Code != 0 {
				t.Error(r)
			}
			for _, d := range k.do {
				if r := dockerOn(t, cli, nil, append(strings.Fields(d), k.name)...); r.Code != 0 {
					t.Error(r)
				}
			}
		})
	}
	all.Wait()
	done(t, cli, "create", "--name", "created", "--restart", "always", image("busybox"), "true")
	for name, want := range map[string]string{"onfailure-success": "exited 0", "onfailure-used": "exited 1"} {
		eventually(t, name, func() (bool, string) {
			got := done(t, cli, "inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name)
			return got == want, got
		})
	}
}

// checkKept waits until each container is what the table says; lost is the exit code of what ended unseen.
func checkKept(t *testing.T, cli testbed.CLI, lost string) {
	t.Helper()
	for _, k := range policyTable() {
		want := strings.ReplaceAll(k.want, "LOST", lost)
		eventually(t, k.name+" is to be "+strconv.Quote(want), func() (bool, string) {
			r := dockerOn(t, cli, nil, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}} {{.State.Error}}", k.name)
			f := strings.Fields(r.Out)
			if r.Code != 0 || len(f) < 3 {
				return want == "", r.String()
			}
			return strings.HasPrefix(f[0]+" "+f[1], want) && (k.count == "" || f[2] == k.count), r.Out
		})
	}
	equal(t, "one that never ran", done(t, cli, "inspect", "-f", "{{.State.Status}}", "created"), "created")
}

// running is the host's pids of all containers' main processes.
func running(t *testing.T, cli testbed.CLI) (pids []int) {
	t.Helper()
	ids := strings.Fields(done(t, cli, "ps", "-q"))
	for _, s := range strings.Fields(done(t, cli, append([]string{"inspect", "-f", "{{.State.Pid}}"}, ids...)...)) {
		if pid, err := strconv.Atoi(s); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Containers end while brigd is down, which was stopped or killed: the next one does what Docker's policies say.
func TestPoliciesAcrossDaemons(t *testing.T) {
	t.Parallel()
	own(t)
	for name, end := range map[string]func(s *testbed.Server) error{"SIGTERM": (*testbed.Server).Stop, "SIGKILL": func(s *testbed.Server) error { s.Kill(); return nil }} {
		t.Run(name, func(t *testing.T) {
			s, cli := daemon(t)
			makeKept(t, cli)
			pids := running(t, cli)
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			for _, pid := range pids {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
					t.Fatal(err)
				}
			}
			thaw(t, s)
			start(t, s)
			checkKept(t, cli, "137")
		})
	}
}

// thaw lets what is paused die of its signals: a v1 freezer holds back even KILL.
func thaw(t *testing.T, s *testbed.Server) {
	t.Helper()
	id, err := s.Instance()
	if err != nil {
		t.Fatal(err)
	}
	states, _ := filepath.Glob("/sys/fs/cgroup/freezer/brig-" + id + "/*/freezer.state")
	for _, f := range states {
		if err := os.WriteFile(f, []byte("THAWED"), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// reboot takes away all that a boot of the host takes: brigd, every process of its containers at once, mounts, links, tables and cgroups.
// Nobody is told of anything. With tmp the jails' run directories go too, as if they lay in memory.
func reboot(t *testing.T, s *testbed.Server, tmp bool) {
	t.Helper()
	id, err := s.Instance()
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	for range 50 { // a process may fork before it is stopped
		pids := processesOf(s.Root, id)
		if len(pids) == 0 {
			break
		}
		for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
			for _, pid := range pids {
				syscall.Kill(pid, sig)
			}
		}
		thaw(t, s)
		eventually(t, "all processes are gone", func() (bool, string) {
			left := slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return !lives(pid) })
			return len(left) == 0, fmt.Sprint(left)
		})
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], s.Root+"/") {
			if err := syscall.Unmount(f[4], syscall.MNT_DETACH); err != nil {
				t.Fatalf("unmount %s: %v", f[4], err)
			}
		}
	}
	links, _ := filepath.Glob("/sys/class/net/*")
	for _, l := range links {
		if name := filepath.Base(l); name == "brig-"+id || strings.HasPrefix(name, "v"+id[:4]+"-") {
			exec.Command("ip", "link", "del", name).Run() // its peer may have taken it along
		}
	}
	if err := testbed.Nft("delete", "table", "ip", "brig_"+id); err != nil {
		t.Fatal(err)
	}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/brig-" + id)
	for _, dir := range dirs {
		filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error { // twice as deep as what is there
			inner, _ := filepath.Glob(path + "/*/")
			for _, sub := range inner {
				os.Remove(sub)
			}
			return nil
		})
		os.Remove(dir)
	}
	if tmp {
		if err := os.RemoveAll(filepath.Join(s.Root, "run")); err != nil {
			t.Fatal(err)
		}
	}
}

// processesOf finds a root's processes by their arguments or their cgroup.
func processesOf(root, id string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		args, _ := os.ReadFile(dir + "/cmdline")
		groups, _ := os.ReadFile(dir + "/cgroup")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid != os.Getpid() && lives(pid) && (bytes.Contains(args, []byte(root+"/")) || bytes.Contains(groups, []byte("brig-"+id))) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lives is false for a zombie too: this host's init may not reap.
func lives(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// After a boot of the host containers with policies run again, with their data, networks and ports; the others have ended, unseen.
func TestHostBoot(t *testing.T) {
	t.Parallel()
	own(t)
	for _, tmp := range []bool{false, true} {
		t.Run(fmt.Sprint("tmp=", tmp), func(t *testing.T) {
			s, cli := daemon(t)
			web := done(t, cli, "run", "-d", "--name", "web", "--restart", "always", "-p", "127.0.0.1::80", "-v", "data:/data", image("busybox"), "sh", "-c",
				"echo run >>/data/runs; echo run >>/runs; echo ran $(wc -l </runs); exec httpd -f -p 80 -h /data")
			makeKept(t, cli)
			eventually(t, "the web server", func() (bool, string) {
				code := get(t, done(t, cli, "port", web, "80"))
				return code == 404, strconv.Itoa(code)
			})
			reboot(t, s, tmp)
			start(t, s)
			checkKept(t, cli, "255")
			eventually(t, "the web server after the boot", func() (bool, string) {
				code := get(t, done(t, cli, "port", web, "80"))
				return code == 404, strconv.Itoa(code)
			})
			equal(t, "its files", done(t, cli, "exec", web, "cat", "/runs", "/data/runs"), "run\nrun\nrun\nrun")
			equal(t, "its log", done(t, cli, "logs", web), "ran 1\nran 2")
			equal(t, "ended unseen", done(t, cli, "inspect", "-f", "{{.State.Pid}} {{.State.Running}} {{.State.Paused}}", "no-paused"), "0 false false")
			gateway := done(t, cli, "exec", web, "sh", "-c", "ip route | awk '/default/ {print $3}'")
			done(t, cli, "run", "--rm", image("busybox"), "ping", "-c", "1", "-W", "10", gateway)
			done(t, cli, "start", "no")
			done(t, cli, "rm", "-f", "no", "no-paused")
		})
	}
}
