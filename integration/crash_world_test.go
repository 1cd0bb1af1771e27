package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// A world is one brigd with fault points, and a bystander: a container with a published port that runs through all of brigd's deaths.
type world struct {
	*testbed.Server
	t        *testing.T
	cli      testbed.CLI
	trap     string // file with the name of the point that brigd dies at next
	passed   string // file with the names of the points that it has passed
	by, addr string // the bystander and its port
	pid      string
	base     map[string]int // what the bystander has on the host
	stock    map[string]int // what the store holds for it and for its image
}

const bystander = "httpd -p 80 -h /etc; i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.1; done"

func newWorld(t *testing.T, bin string) *world {
	t.Helper()
	dir := filepath.Join(bed.dir, fresh("w"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w := &world{Server: testbed.NewServer(bin, dir, "--shim", filepath.Join(bed.bin, "brig-shim")), t: t, trap: filepath.Join(dir, "trap"), passed: filepath.Join(dir, "passed")}
	w.Env = []string{"BRIG_FAULT_FILE=" + w.trap, "BRIG_FAULT_LOG=" + w.passed}
	start(t, w.Server)
	t.Cleanup(func() {
		os.Remove(w.trap)
		select {
		case <-w.Gone(): // a failed trial
			start(t, w.Server)
		default:
		}
		if err := stopServer(w.Server); err != nil {
			t.Error(err)
		}
	})
	w.cli = testbed.CLI{Host: w.Host, Config: filepath.Join(bed.dir, "config")}
	done(t, w.cli, "pull", "-q", image("busybox"))
	w.by = done(t, w.cli, "run", "-d", "--name", "by", "-p", "127.0.0.1::80", image("busybox"), "sh", "-c", bystander)
	w.addr = done(t, w.cli, "port", w.by, "80")
	w.pid = done(t, w.cli, "inspect", "-f", "{{.State.Pid}}", w.by)
	eventually(t, "the bystander's port", func() (bool, string) { code := get(t, w.addr); return code == 404, strconv.Itoa(code) })
	eventually(t, "one root file system", func() (bool, string) { w.stock = w.store(); return w.stock["c"] == 1, fmt.Sprint(w.stock) })
	w.base = w.objects()
	for what, n := range w.base {
		if n == 0 {
			t.Fatalf("the bystander has no %s on the host: %v", what, w.base)
		}
	}
	return w
}

// call makes one request; acked is false if its answer was cut short.
func (w *world) call(method, path, body string) (status int, answer []byte, acked bool) {
	client := testbed.Client(w.Host)
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, false
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil, false
	}
	return resp.StatusCode, answer, true
}

// must is a call that succeeds.
func (w *world) must(method, path string, into any) {
	w.t.Helper()
	status, answer, acked := w.call(method, path, "")
	if !acked || status >= 400 {
		w.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			w.t.Fatal(err)
		}
	}
}

// shown is what inspect says of the container that the acts are about.
type shown struct {
	ID           string `json:"Id"`
	Name         string
	RestartCount int
	State        struct {
		Status, StartedAt string
		ExitCode          int
	}
	NetworkSettings struct {
		Ports map[string][]struct{ HostIp, HostPort string }
	}
}

// subject is the container that is not the bystander; nil if there is none.
func (w *world) subject() *shown {
	w.t.Helper()
	var list []struct {
		ID string `json:"Id"`
	}
	w.must("GET", "/containers/json?all=1", &list)
	for _, c := range list {
		if c.ID == w.by {
			continue
		}
		status, answer, _ := w.call("GET", "/containers/"+c.ID+"/json", "")
		if status == 404 {
			continue
		}
		s := new(shown)
		if err := json.Unmarshal(answer, s); err != nil {
			w.t.Fatal(err, string(answer))
		}
		return s
	}
	return nil
}

// objects counts what brigd's instance has on the host for its running containers.
func (w *world) objects() map[string]int {
	w.t.Helper()
	n, err := w.Objects()
	if err != nil {
		w.t.Fatal(err)
	}
	shims, err := testbed.Shims(w.Root)
	if err != nil {
		w.t.Fatal(err)
	}
	n["runs"], n["shims"] = count(w.Root, "run"), len(shims)
	if n["links"], _, err = w.Links(); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// bridges counts those of users' networks.
func (w *world) bridges() int {
	w.t.Helper()
	_, n, err := w.Links()
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func count(elem ...string) (n int) {
	list, _ := os.ReadDir(filepath.Join(elem...))
	for _, e := range list {
		if e.Name() != ".roots" { // a folder of FreeBSD's for further mounts of what is there
			n++
		}
	}
	return n
}

// store counts what is kept.
func (w *world) store() map[string]int {
	n := map[string]int{"blobs": count(w.Root, "blobs", "sha256"), "containers": count(w.Root, "containers")}
	for _, d := range []string{"l", "c", "v", "w"} {
		n[d] = count(w.Root, "store", d)
	}
	return n
}

// settle waits until the host has what so many running containers need, and nothing else.
// Of links it may have so many more as one of more says.
func (w *world) settle(what string, running func() int, more ...int) {
	w.t.Helper()
	eventually(w.t, what, func() (bool, string) {
		k, is := running(), w.objects()
		for name, n := range is {
			if over := n - k*w.base[name]; over != 0 && !(name == "links" && k > 1 && slices.Contains(more, over)) && !(name == "mounts" && k > 1 && over == podMounts) {
				return false, fmt.Sprintf("%v; with %d running and %v for one", is, k, w.base)
			}
		}
		return true, ""
	})
}

// standing checks the bystander.
func (w *world) standing() {
	w.t.Helper()
	equal(w.t, "the bystander", done(w.t, w.cli, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", w.by), "running "+w.pid)
	equal(w.t, "the bystander's port answers", get(w.t, w.addr), 404)
}

// clear removes all but the bystander, and wants host and store as they were in the beginning.
func (w *world) clear() {
	w.t.Helper()
	for s := w.subject(); s != nil; s = w.subject() {
		w.must("DELETE", "/containers/"+s.ID+"?force=1&v=1", nil)
	}
	var vols struct{ Volumes []struct{ Name string } }
	w.must("GET", "/volumes", &vols)
	for _, v := range vols.Volumes {
		w.must("DELETE", "/volumes/"+v.Name, nil)
	}
	if status, answer, _ := w.call("DELETE", "/networks/fn", ""); status != 204 && status != 404 {
		w.t.Errorf("remove the network: %d %s", status, answer)
	}
	if n := w.bridges(); n > 0 {
		w.t.Errorf("%d bridges are left", n)
	}
	if status, answer, _ := w.call("DELETE", "/images/crash:t", ""); status != 200 && status != 404 {
		w.t.Errorf("remove the image of the commit: %d %s", status, answer)
	}
	w.must("POST", "/build/prune?all=true", nil)
	w.settle("what is left on the host is the bystander's", func() int { return 1 })
	eventually(w.t, "what is left in the store is the bystander's", func() (bool, string) {
		is := w.store()
		return fmt.Sprint(is) == fmt.Sprint(w.stock), fmt.Sprintf("%v, want %v", is, w.stock)
	})
}

// whole checks that the bystander's log has every line once.
func (w *world) whole() {
	w.t.Helper()
	for i, l := range strings.Split(done(w.t, w.cli, "logs", w.by), "\n") {
		if l != fmt.Sprint("tick ", i) {
			w.t.Fatalf("line %d of the bystander's log is %q: one is lost or doubled", i, l)
		}
	}
	equal(w.t, "exec in the bystander", done(w.t, w.cli, "exec", w.by, "echo", "in"), "in")
}
