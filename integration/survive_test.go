package integration

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// daemon is a brigd of the test's own, with the busybox image. At the test's end it is stopped, and nothing of it may be left.
func daemon(t *testing.T, args ...string) (*testbed.Server, testbed.CLI) {
	t.Helper()
	own(t)
	dir := filepath.Join(bed.dir, fresh("d"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := testbed.NewServer(bed.bin, dir, args...)
	start(t, s)
	t.Cleanup(func() {
		if err := stopServer(s); err != nil {
			t.Error(err)
		}
		if n := s.StorageLeft(); n > 0 {
			t.Errorf("%d containers' root file systems are left in the store", n)
		}
	})
	cli := testbed.CLI{Host: s.Host, Config: filepath.Join(bed.dir, "config")}
	done(t, cli, "pull", "-q", image("busybox"))
	return s, cli
}

func start(t *testing.T, s *testbed.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// done runs docker on a server of the test's own, wants exit code 0, and returns its output.
func done(t *testing.T, cli testbed.CLI, args ...string) string {
	t.Helper()
	r := dockerOn(t, cli, nil, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return strings.TrimSpace(r.Out)
}

// Killed with an attached client, a follower of the log, a published port and an exec, brigd leaves all of the container's side as it is.
func TestKilledDaemonLeavesContainersRunning(t *testing.T) {
	s, cli := daemon(t)
	id := done(t, cli, "run", "-d", "-p", "127.0.0.1::80", image("busybox"), "sh", "-c",
		"httpd -p 80 -h /etc; i=0; while test ! -e /tmp/end; do echo tick $i; i=$((i+1)); sleep 0.05; done; echo last; exit 21")
	gone := done(t, cli, "run", "-d", image("busybox"), "sh", "-c", "sleep 1; echo bye; exit 22")
	addr := done(t, cli, "port", id, "80")
	pid := done(t, cli, "inspect", "-f", "{{.State.Pid}}", id)
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	follow := cli.Command(ctx, "logs", "-f", id)
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	follow.Wait() // its stream was cut; how it says so is docker's
	before := ticks(t, s, id)
	eventually(t, "the log goes on without brigd", func() (bool, string) { n := ticks(t, s, id); return n > before+3, strconv.Itoa(n) })
	if code := get(t, addr); code != 404 {
		t.Errorf("the published port answers %d while brigd is down", code)
	}
	eventually(t, "the short container ends", func() (bool, string) {
		log, _ := os.ReadFile(logFile(s, gone))
		return strings.Contains(string(log), "bye"), string(log)
	})
	time.Sleep(300 * time.Millisecond) // from its last word to its end

	start(t, s)
	equal(t, "adopted", done(t, cli, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", id), "running "+pid)
	equal(t, "ended meanwhile", done(t, cli, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", gone), "exited 22")
	equal(t, "exec", done(t, cli, "exec", id, "sh", "-c", "touch /tmp/end; echo in"), "in")
	equal(t, "wait", done(t, cli, "wait", id), "21")
	lines := strings.Split(done(t, cli, "logs", id), "\n")
	for i, l := range lines[:len(lines)-1] {
		if l != fmt.Sprint("tick ", i) {
			t.Fatalf("line %d of the log is %q: one is lost or doubled", i, l)
		}
	}
	equal(t, "last line", lines[len(lines)-1], "last")
}

func logFile(s *testbed.Server, id string) string {
	return filepath.Join(s.Root, "containers", id, id+"-json.log")
}

func ticks(t *testing.T, s *testbed.Server, id string) (n int) {
	t.Helper()
	f, err := os.Open(logFile(s, id))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); n++ {
	}
	return n
}

func TestTerminatedDaemonLeavesContainersRunning(t *testing.T) {
	s, cli := daemon(t)
	id := done(t, cli, "run", "-d", image("busybox"), "sleep", "600")
	pid := done(t, cli, "inspect", "-f", "{{.State.Pid}}", id)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(pid); err != nil || !testbed.Lives(n) {
		t.Fatal("the container ended with brigd: pid ", pid, err)
	}
	start(t, s)
	equal(t, "adopted", done(t, cli, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", id), "running "+pid)
	done(t, cli, "kill", id)
	equal(t, "exit code", done(t, cli, "wait", id), "137")
}

func TestSecondDaemonOnARootIsRefused(t *testing.T) {
	s, cli := daemon(t)
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	out, err := s.Command(ctx).CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprint("pid ", s.Pid())) {
		t.Errorf("a second brigd: %v, %s; want pid %d in it", err, out, s.Pid())
	}
	done(t, cli, "run", "--rm", image("busybox"), "true")
}

// Two brigd, one of them with the copy driver, don't see each other's containers and don't disturb each other's networks.
func TestDaemonsSideBySide(t *testing.T) {
	_, a := daemon(t)
	_, b := daemon(t, "--storage", "copy")
	equal(t, "driver", done(t, b, "info", "-f", "{{.Driver}}"), "copy")
	const serve = "httpd -f -p 80 -h /etc"
	idA := done(t, a, "run", "-d", "--name", "same", "-p", "127.0.0.1::80", image("busybox"), "sh", "-c", serve)
	idB := done(t, b, "run", "-d", "--name", "same", "-p", "127.0.0.1::80", image("busybox"), "sh", "-c", serve)
	portA, portB := done(t, a, "port", "same", "80"), done(t, b, "port", "same", "80")
	for _, addr := range []string{portA, portB} {
		eventually(t, addr, func() (bool, string) { code := get(t, addr); return code == 404, strconv.Itoa(code) })
	}
	done(t, a, "rm", "-f", "same")
	equal(t, "the other's container", done(t, b, "ps", "-q", "--no-trunc"), idB)
	equal(t, "the other's port", get(t, portB), 404)
	if r := dockerOn(t, a, nil, "inspect", idA); r.Code == 0 {
		t.Error("the removed container is still there")
	}
}

// 200 docker run, 20 at a time, while brigd is killed and started again at random moments. Every acknowledged container is there with
// its exit code, and in the end nothing is left on the host.
func TestStorm(t *testing.T) {
	const runs, atOnce = 200, 20
	s, cli := daemon(t)
	ctx, cancel := context.WithTimeout(bed.ctx, testbed.Slow(8*time.Minute))
	defer cancel()
	var mu sync.Mutex
	ids := map[int]string{} // acknowledged, guarded by mu
	todo := make(chan int)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := range todo {
				id := insist(ctx, cli, i)
				mu.Lock()
				if id != "" {
					ids[i] = id
				}
				mu.Unlock()
			}
		})
	}
	over := make(chan struct{})
	go func() {
		for i := range runs {
			todo <- i
		}
		close(todo)
		workers.Wait()
		close(over)
	}()
	kills := killAtRandom(t, s, over, func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(ids)
	})
	t.Logf("brigd was killed %d times", kills)
	if kills < 3 {
		t.Errorf("brigd was killed only %d times", kills)
	}
	for i := range runs {
		if ids[i] == "" {
			t.Fatalf("run %d was never acknowledged", i)
		}
		if want := strconv.Itoa(i % 100); done(t, cli, "wait", ids[i]) != want {
			t.Errorf("run %d: exit code is not %s: %s", i, want, done(t, cli, "inspect", "-f", "{{json .State}}", ids[i]))
		}
		if out := done(t, cli, "logs", ids[i]); out != fmt.Sprint("run ", i) {
			t.Errorf("run %d: log is %q", i, out)
		}
	}
}

// insist repeats docker run -d until it is acknowledged, and returns the container's id; "" when ctx ends.
func insist(ctx context.Context, cli testbed.CLI, i int) string {
	script := fmt.Sprintf("echo run %d; sleep 0.%d; exit %d", i, i%10, i%100)
	for ctx.Err() == nil {
		if testbed.Ready(ctx, cli.Host, nil) != nil {
			return ""
		}
		if r := cli.Run(ctx, nil, "run", "-d", image("busybox"), "sh", "-c", script); r.Code == 0 {
			return strings.TrimSpace(r.Out)
		}
	}
	return ""
}

// killAtRandom kills and starts brigd until over is closed; it runs then. It returns how often. A brigd that got nothing done is
// followed by one that lives twice as long: on a busy machine all the clients would otherwise begin again for ever.
func killAtRandom(t *testing.T, s *testbed.Server, over <-chan struct{}, acked func() int) (kills int) {
	t.Helper()
	for life, before := time.Duration(1), 0; ; {
		select {
		case <-over:
			return kills
		case <-time.After(life * (300*time.Millisecond + rand.N(1200*time.Millisecond))):
		}
		s.Kill()
		kills++
		if now := acked(); now > before {
			life, before = 1, now
		} else {
			life *= 2
		}
		start(t, s)
	}
}

// get is the status of an HTTP GET, or 0 if nobody answers.
func get(t *testing.T, addr string) int {
	t.Helper()
	client := http.Client{Timeout: testbed.Slow(5 * time.Second), Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr + "/nosuch")
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
