package integration

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A commit holds what the container changed, and nothing of its mounts nor of what the engine puts into it.
func TestCommit(t *testing.T) {
	t.Cleanup(func() { docker(t, "image", "prune", "-f") }) // last: what lost its name
	vol := fresh("commitvol")
	id := container(t, "-v", vol+":/vol", "--tmpfs", "/tmp", "-e", "B=2", "--label", "mine=yes", "-p", "127.0.0.1::80", image("busybox"), "sh", "-c", `
		echo new >/new; mkdir -p /d/e; echo deep >/d/e/f; chmod 711 /d; ln -s f /d/e/l; ln /new /hard; rm /etc/group; echo x >/vol/x; echo y >/tmp/y
		echo changed >>/etc/passwd; touch -d @86400 /old; chown 12:34 /old; chmod 4755 /old; mkfifo /fifo; echo done; sleep 600`)
	defer docker(t, "volume", "rm", vol)
	logged(t, id, "done")
	name := fresh("committed") + ":1"
	made := ok(t, "commit", "-a", "me", "-m", "why", id, name)
	defer docker(t, "rmi", "-f", name)
	match(t, "id", made, `^sha256:[0-9a-f]{64}$`)
	equal(t, "goes on", inspect(t, id, "{{.State.Status}}"), "running")
	equal(t, "content", ok(t, "run", "--rm", name, "sh", "-c", `cat /new /d/e/l /hard; stat -c '%a' /d; stat -c '%a %u %g %Y' /old; stat -c '%h' /new
		ls -A /vol /tmp; test -p /fifo && test ! -e /etc/group && tail -n1 /etc/passwd; ls -d /.dockerenv | wc -l`),
		"new\ndeep\nnew\n711\n4755 12 34 86400\n2\n/tmp:\n\n/vol:\nchanged\n1")
	layers := ok(t, "save", name)
	for _, furniture := range []string{"etc/hosts", "etc/resolv.conf", "etc/hostname", ".dockerenv"} {
		if strings.Contains(lastLayer(t, layers), furniture) {
			t.Errorf("the layer has %s", furniture)
		}
	}
	equal(t, "config", inspect(t, name, "{{.Author}}|{{.Comment}}|{{.Config.Labels.mine}}|{{json .Config.Cmd}}|{{len .RootFS.Layers}}|{{.Os}}"), `me|why|yes|`+inspect(t, id, "{{json .Config.Cmd}}")+`|2|linux`)
	match(t, "env", inspect(t, name, "{{json .Config.Env}}"), `"B=2"`)
	match(t, "ports", inspect(t, name, "{{json .Config.ExposedPorts}}"), `80/tcp`)
	match(t, "history", ok(t, "history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", name), `(?s)^sh -c .*\|why\nlayer 1\|$`)
	fails(t, 1, "(?i)no such container", "commit", "nosuch")
	fails(t, 1, "invalid reference format", "commit", id, "UPPER/:x")
	fails(t, 1, "(?i)run is not a valid change command", "commit", "-c", "RUN x", id)
}

// lastLayer lists the names in the topmost layer of a saved image.
func lastLayer(t *testing.T, saved string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "s.tar"), []byte(saved), 0o600); err != nil {
		t.Fatal(err)
	}
	tar := func(args ...string) []byte {
		out, err := exec.Command("tar", append([]string{"-C", dir}, args...)...).Output()
		if err != nil {
			t.Fatalf("tar %v: %v", args, err)
		}
		return out
	}
	tar("-xf", filepath.Join(dir, "s.tar"))
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m []struct{ Layers []string }
	if err := json.Unmarshal(b, &m); err != nil || len(m) != 1 {
		t.Fatalf("manifest.json: %s, %v", b, err)
	}
	return string(tar("-tf", filepath.Join(dir, m[0].Layers[len(m[0].Layers)-1])))
}

func TestCommitChanges(t *testing.T) {
	t.Cleanup(func() { docker(t, "image", "prune", "-f") }) // last: what lost its name
	id := made(t, ok(t, "create", "-e", "A=1", image("entry")))
	name := fresh("changed")
	signal := "STOPSIGNAL SIGINT"
	if reason, differs := dockerdDiffers["commit signal"]; differs && !bed.server.Owned {
		t.Log("left out: STOPSIGNAL: " + reason)
		signal = ""
	}
	ok(t, "commit", "-c", `CMD ["a b", "c"]`, "-c", "ENV B=$A C='d e'", "-c", "EXPOSE 81/udp", "-c", "LABEL x=y", "-c", "USER 5", "-c", "VOLUME /v", "-c", "WORKDIR sub",
		"-c", signal, "-c", "ONBUILD RUN z", "-c", "HEALTHCHECK --interval=9s CMD true", id, name)
	defer docker(t, "rmi", "-f", name)
	get := func(ref string) string {
		return inspect(t, ref, "{{with .Config}}{{json .Entrypoint}} {{json .Cmd}} {{json .ExposedPorts}} {{json .Labels}} {{.User}} {{json .Volumes}} {{.WorkingDir}} {{.StopSignal}} {{json .OnBuild}} {{json .Healthcheck}}{{end}}")
	}
	equal(t, "config", get(name), inspect(t, image("entry"), "{{json .Config.Entrypoint}}")+
		` ["a b","c"] {"81/udp":{}} {"x":"y"} 5 {"/v":{}} /sub `+strings.TrimPrefix(signal, "STOPSIGNAL ")+` ["RUN z"] {"Test":["CMD-SHELL","true"],"Interval":9000000000}`)
	match(t, "env", inspect(t, name, "{{json .Config.Env}}"), `"A=1".*"B=1","C=d e"`)
	// Nothing was ever written, so there is no layer more.
	equal(t, "no empty layer", inspect(t, name, "{{len .RootFS.Layers}}"), inspect(t, image("entry"), "{{len .RootFS.Layers}}"))
	equal(t, "history", strings.Count(ok(t, "history", "-q", name), "\n"), strings.Count(ok(t, "history", "-q", image("entry")), "\n")+1)
	other := fresh("changed")
	ok(t, "commit", "-c", `ENTRYPOINT ["/bin/echo"]`, id, other)
	defer docker(t, "rmi", "-f", other)
	equal(t, "an entrypoint takes the command away", inspect(t, other, "{{json .Config.Entrypoint}} {{json .Config.Cmd}}"), `["/bin/echo"] null`)
	equal(t, "run", ok(t, "run", "--rm", other, "hi"), "hi")
}

// One container can be committed again and again; each image stands on what was there before it.
func TestCommitAgain(t *testing.T) {
	t.Cleanup(func() { docker(t, "image", "prune", "-f") }) // last: what lost its name
	id := made(t, ok(t, "create", image("busybox"), "sh", "-c", "echo $RANDOM >>/n; date +%s%N >>/n"))
	first, second := fresh("again"), fresh("again")
	defer docker(t, "rmi", "-f", first, second)
	ok(t, "start", "-a", id)
	a := ok(t, "commit", id, first)
	ok(t, "start", "-a", id)
	b := ok(t, "commit", id, first)
	if a == b {
		t.Error("two commits made one image")
	}
	equal(t, "moved name", inspect(t, first, "{{.Id}}"), b)
	equal(t, "lines", ok(t, "run", "--rm", first, "sh", "-c", "wc -l </n"), "4")
	equal(t, "lines of the one before", ok(t, "run", "--rm", a, "sh", "-c", "wc -l </n"), "2")
	child := made(t, ok(t, "create", first, "sh", "-c", "rm /n; touch /m"))
	ok(t, "start", "-a", child)
	ok(t, "commit", child, second)
	equal(t, "a commit of a commit", ok(t, "run", "--rm", second, "sh", "-c", "ls -d /[mn]"), "/m")
	equal(t, "its layers", inspect(t, second, "{{len .RootFS.Layers}}"), "3")
	ok(t, "rmi", a)
	equal(t, "the rest stays", ok(t, "run", "--rm", second, "ls", "-d", "/m"), "/m")
	ok(t, "push", "-q", pushName(t, second))
}

// pushName tags an image for the test registry.
func pushName(t *testing.T, ref string) string {
	t.Helper()
	name := image(ref)
	ok(t, "tag", ref, name)
	t.Cleanup(func() { docker(t, "rmi", name) })
	return name
}

// A commit pauses the container while it runs, and says so in the events.
func TestCommitPause(t *testing.T) {
	t.Cleanup(func() { docker(t, "image", "prune", "-f") }) // last: what lost its name
	id := container(t, image("busybox"), "sh", "-c", "touch /f; echo up; sleep 600")
	logged(t, id, "up")
	since := time.Now()
	name := fresh("paused")
	defer docker(t, "rmi", "-f", name)
	ok(t, "commit", id, name)
	ok(t, "commit", "--pause=false", id, name)
	out := ok(t, "events", "--since", since.Format(time.RFC3339Nano), "--until", time.Now().Add(time.Millisecond).Format(time.RFC3339Nano), "--format", "{{.Type}} {{.Action}}",
		"--filter", "event=pause", "--filter", "event=unpause", "--filter", "event=commit", "--filter", "event=tag")
	equal(t, "events", strings.Join(strings.Fields(strings.ReplaceAll(out, "container ", "")), " "), "pause image tag commit unpause image tag commit")
	ok(t, "pause", id)
	ok(t, "commit", id, name)
	equal(t, "stays paused", inspect(t, id, "{{.State.Status}}"), "paused")
	ok(t, "unpause", id)
}

// Whatever a tar is compressed with, import takes it; so it does changes and URLs.
func TestImportForms(t *testing.T) {
	t.Cleanup(func() { docker(t, "image", "prune", "-f") }) // last: what lost its name
	id := made(t, ok(t, "create", image("busybox"), "true"))
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	ok(t, "export", "-o", plain, id)
	tar, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string][]byte{"plain": tar, "gzip": gzipOf(t, tar), "bzip2": through(t, tar, "bzip2"), "xz": through(t, tar, "xz", "-0")}
	if _, differs := dockerdDiffers["zstd"]; bed.server.Owned || !differs {
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		forms["zstd"] = z.EncodeAll(tar, nil)
	}
	diffs := map[string]string{}
	for form, b := range forms {
		name := fresh("form")
		r := dockerIn(t, string(b), "import", "-", name)
		if r.Code != 0 {
			t.Errorf("%s: %s", form, r)
			continue
		}
		t.Cleanup(func() { docker(t, "rmi", name) })
		equal(t, form, ok(t, "run", "--rm", name, "echo", form), form)
		diffs[inspect(t, name, "{{json .RootFS.Layers}}")] = form
	}
	equal(t, "one tree", len(diffs), 1)
	name := fresh("form")
	ok(t, "import", "-c", "CMD echo hello", "-c", "ENV X=y", "-c", "ENTRYPOINT []", plain, name)
	t.Cleanup(func() { docker(t, "rmi", name) })
	equal(t, "config", inspect(t, name, "{{json .Config.Cmd}} {{json .Config.Env}} {{.Comment}}"), `["/bin/sh","-c","echo hello"] ["X=y"] Imported from -`)
	fails(t, 1, "(?i)copy is not a valid change command", "import", "-c", "COPY a b", plain)
}

func TestImportURL(t *testing.T) {
	t.Cleanup(func() { docker(t, "image", "prune", "-f") }) // last: what lost its name
	id := made(t, ok(t, "create", image("busybox"), "true"))
	file := filepath.Join(t.TempDir(), "fs.tar")
	ok(t, "export", "-o", file, id)
	mux := http.NewServeMux()
	mux.HandleFunc("/fs.tar", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	mux.HandleFunc("/short.tar", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		w.Write(make([]byte, 1000))
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	name := fresh("url")
	r := docker(t, "import", srv.URL+"/fs.tar", name)
	if r.Code != 0 {
		t.Fatal(r)
	}
	defer docker(t, "rmi", name)
	match(t, "progress", r.Out, `(?s)^Downloading from `+srv.URL+`/fs\.tar\n.*sha256:[0-9a-f]{64}\n$`)
	equal(t, "comment", inspect(t, name, "{{.Comment}}"), "Imported from "+srv.URL+"/fs.tar")
	equal(t, "run", ok(t, "run", "--rm", name, "echo", "hi"), "hi")
	fails(t, 1, "404 Not Found", "import", srv.URL+"/nosuch")
	fails(t, 1, "(?i)unexpected EOF", "import", srv.URL+"/short.tar")
	srv.Close()
	fails(t, 1, "connection refused", "import", srv.URL+"/fs.tar")
}

func gzipOf(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// through gives a program's output.
func through(t *testing.T, in []byte, argv ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", argv, err)
	}
	return out
}
