package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// A disk is a small ext4 file system on a loop device, with a brigd whose root it is.
type disk struct {
	*testbed.Server
	t    *testing.T
	cli  testbed.CLI
	fill string // the file that fills it
}

func newDisk(t *testing.T, mebibytes int64) *disk {
	t.Helper()
	own(t)
	dir := filepath.Join(bed.dir, fresh("k"))
	if err := os.MkdirAll(filepath.Join(dir, "r"), 0o700); err != nil {
		t.Fatal(err)
	}
	image, root := filepath.Join(dir, "image"), filepath.Join(dir, "r")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(mebibytes<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-m", "0", image)
	run(t, "mount", "-o", "loop", image, root)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", root).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
			exec.Command("umount", "--lazy", root).Run()
		}
	})
	d := &disk{Server: testbed.NewServer(bed.bin, dir), t: t, fill: filepath.Join(root, "fill")}
	start(t, d.Server)
	t.Cleanup(func() {
		os.Remove(d.fill)
		if err := stopServer(d.Server); err != nil {
			t.Error(err)
		}
		equal(t, "root file systems that are left", d.StorageLeft(), 0)
	})
	d.cli = testbed.CLI{Host: d.Host, Config: filepath.Join(bed.dir, "config")}
	return d
}

// run executes a program that must succeed.
func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// full writes until nothing more fits.
func (d *disk) full() {
	d.t.Helper()
	f, err := os.OpenFile(d.fill, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for n := 1 << 20; n > 0; n /= 2 {
		for err = nil; err == nil; _, err = f.Write(make([]byte, n)) {
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatal(err)
		}
	}
	f.Sync()
}

func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(d.fill); err != nil {
		d.t.Fatal(err)
	}
}

// refused wants a docker command to fail with these words.
func (d *disk) refused(words string, args ...string) {
	d.t.Helper()
	r := dockerOn(d.t, d.cli, nil, args...)
	if r.Code == 0 {
		d.t.Errorf("%s\nwant a failure", r)
	}
	match(d.t, strings.Join(args, " "), r.Out+r.Err, words)
}

const noSpace = "(?i)no space left on device"

// On a full disk everything that needs space is refused, what has been acknowledged stays, what runs goes on, and stops and removals work.
// Once there is space again all is well; a brigd that starts on the full disk says why it can't.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 48)
	done(t, d.cli, "pull", "-q", image("busybox"))
	up := done(t, d.cli, "run", "-d", "-p", "127.0.0.1::80", image("busybox"), "sh", "-c", "httpd -p 80 -h /etc; i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.02; done")
	old := done(t, d.cli, "run", "-d", "--restart", "unless-stopped", "-v", "kept:/kept", image("busybox"), "sh", "-c", "test -e /kept/f || echo data >/kept/f; exec sleep 600")
	idle := done(t, d.cli, "create", "--name", "idle", "-v", "kept:/kept", image("busybox"), "cat", "/kept/f")
	addr, pid := done(t, d.cli, "port", up, "80"), done(t, d.cli, "inspect", "-f", "{{.State.Pid}}", up)
	eventually(t, "the volume's file", func() (bool, string) {
		r := dockerOn(t, d.cli, nil, "exec", old, "cat", "/kept/f")
		return r.Out == "data\n", r.String()
	})
	gone := done(t, d.cli, "run", "-d", image("busybox"), "sleep", "600")
	before := done(t, d.cli, "logs", up)
	d.full()

	d.refused(noSpace, "pull", image("layers"))
	d.refused(noSpace, "create", image("busybox"))
	d.refused(noSpace, "run", "--rm", image("busybox"), "true")
	d.refused(noSpace, "start", idle)
	d.refused(noSpace, "exec", old, "true")
	d.refused(noSpace, "commit", old, "made")
	d.refused(noSpace, "volume", "create", "new")
	d.refused(noSpace, "run", "-v", "up:/etc", image("busybox"), "true")
	d.refused(noSpace, "cp", "/etc/passwd", old+":/kept/p")
	if status, body, _ := d.call("POST", "/containers/create", `{"Image":"`+image("busybox")+`"}`); status != 500 || !strings.Contains(body, "no space left on device") {
		t.Errorf("create: %d %s", status, body)
	}
	still := func() {
		t.Helper()
		equal(t, "the running container", done(t, d.cli, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", up), "running "+pid)
		equal(t, "its port", get(t, addr), 404)
		equal(t, "images", done(t, d.cli, "images", "-q", "--no-trunc"), done(t, d.cli, "inspect", "-f", "{{.Image}}", up))
		equal(t, "volumes", done(t, d.cli, "volume", "ls", "-q"), "kept")
		equal(t, "copied out", len(done(t, d.cli, "cp", up+":/bin/busybox", "-")) > 1<<20, true)
	}
	still()
	done(t, d.cli, "stop", "-t", "0", old)
	equal(t, "stopped", done(t, d.cli, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", old), "exited 137")
	done(t, d.cli, "rm", "-f", gone)
	d.full() // what that gave back
	d.refused(noSpace, "start", old)
	still()
	equal(t, "all", strings.Join(strings.Fields(done(t, d.cli, "ps", "-aq", "--no-trunc")), " "), idle+" "+old+" "+up)

	d.free()
	equal(t, "started", done(t, d.cli, "start", "-a", idle), "data")
	done(t, d.cli, "start", old)
	equal(t, "executed", done(t, d.cli, "exec", old, "cat", "/kept/f"), "data")
	done(t, d.cli, "pull", "-q", image("layers"))
	done(t, d.cli, "commit", old, "made")
	equal(t, "a volume with the image's files", done(t, d.cli, "run", "--rm", "-v", "up:/etc", "made", "head", "-n1", "/etc/passwd"), "root:x:0:0:root:/root:/bin/sh")
	n := ticks(t, d.Server, up)
	eventually(t, "the log goes on", func() (bool, string) { now := ticks(t, d.Server, up); return now > n+3, fmt.Sprint(now) })
	log, last := done(t, d.cli, "logs", up), -1
	equal(t, "the log as it was", strings.HasPrefix(log, before), true)
	for line := range strings.Lines(log + "\n") {
		var tick int
		if k, err := fmt.Sscanf(line, "tick %d\n", &tick); k != 1 || err != nil || tick <= last {
			t.Fatalf("after tick %d the log has %q", last, line)
		}
		last = tick
	}
	healthy(t, d.Host)

	d.full()
	d.Kill()
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	if out, err := d.Command(ctx).CombinedOutput(); err == nil || !strings.Contains(string(out), "no space left on device") {
		t.Errorf("brigd on a full disk: %v, %s", err, out)
	}
	equal(t, "its port without brigd", get(t, addr), 404)
	d.free()
	start(t, d.Server)
	equal(t, "the running container", done(t, d.cli, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", up), "running "+pid)
	healthy(t, d.Host)
}

// call makes a request of its own, and returns the status and the body.
func (d *disk) call(method, path, body string) (status int, answer string, err error) {
	client := testbed.Client(d.Host)
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

const readOnly = "(?i)read-only file system"

// A disk fails, so that the kernel makes it read-only beneath a running brigd, and is so still when brigd starts again. What runs goes on,
// nothing is half done, and once the disk can be written again all is there.
func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 48)
	done(t, d.cli, "pull", "-q", image("busybox"))
	up := done(t, d.cli, "run", "-d", "--restart", "always", "-p", "127.0.0.1::80", "-v", "kept:/kept", image("busybox"), "sh", "-c", "echo data >/kept/f; sync; exec httpd -f -p 80 -h /etc")
	idle := done(t, d.cli, "create", "--name", "idle", image("busybox"), "echo", "well")
	old := done(t, d.cli, "run", "-d", image("busybox"), "sleep", "600")
	frozen := done(t, d.cli, "run", "-d", image("busybox"), "sleep", "600")
	done(t, d.cli, "pause", frozen)
	addr, pid := done(t, d.cli, "port", up, "80"), done(t, d.cli, "inspect", "-f", "{{.State.Pid}}", up)
	eventually(t, "the port", func() (bool, string) { code := get(t, addr); return code == 404, fmt.Sprint(code) })
	run(t, "mount", "-o", "remount,abort", d.Root) // ext4(5): what an error of the disk does

	d.refused(readOnly, "pull", image("layers"))
	d.refused(readOnly, "create", image("busybox"))
	d.refused(readOnly, "start", idle)
	d.refused(readOnly, "exec", up, "true")
	d.refused(readOnly, "commit", up, "made")
	d.refused(readOnly, "volume", "create", "new")
	d.refused(readOnly, "rename", idle, "renamed")
	d.refused(readOnly, "pause", old)
	d.refused(readOnly, "rm", idle)
	equal(t, "the running container", done(t, d.cli, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", up), "running "+pid)
	equal(t, "its port", get(t, addr), 404)
	equal(t, "its log", done(t, d.cli, "logs", up), "")
	done(t, d.cli, "stop", "-t", "0", old)
	done(t, d.cli, "kill", frozen)
	for _, id := range []string{old, frozen} {
		equal(t, "ended", done(t, d.cli, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", id), "exited 137")
	}
	equal(t, "images", done(t, d.cli, "images", "-q", "--no-trunc"), done(t, d.cli, "inspect", "-f", "{{.Image}}", up))

	reboot(t, d.Server, false)
	d.mount("ro")
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	out, err := d.Command(ctx).CombinedOutput()
	if err == nil {
		t.Error("brigd started on a read-only root")
	}
	match(t, "brigd on a read-only root", string(out), "brigd: open lock: .*brigd.lock: read-only file system")
	d.mount("rw")
	start(t, d.Server)
	eventually(t, "the port of what always runs", func() (bool, string) {
		r := dockerOn(t, d.cli, nil, "port", up, "80")
		return get(t, strings.TrimSpace(r.Out)) == 404, r.String()
	})
	equal(t, "its data", done(t, d.cli, "exec", up, "cat", "/kept/f"), "data")
	equal(t, "one that was never started", done(t, d.cli, "start", "-a", "idle"), "well")
	for _, id := range []string{old, frozen} { // nobody could note how they ended
		match(t, "ended on the read-only disk", done(t, d.cli, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", id), "^exited (137|255)$")
	}
	healthy(t, d.Host)
}

// mount unmounts the disk, repairs it, and mounts it again.
func (d *disk) mount(how string) {
	d.t.Helper()
	image := filepath.Join(filepath.Dir(d.Root), "image")
	run(d.t, "umount", d.Root)
	eventually(d.t, "the last mount namespace that had it is gone", func() (bool, string) {
		out, err := exec.Command("losetup", "-j", image).CombinedOutput()
		return err == nil && len(out) == 0, string(out)
	})
	if out, err := exec.Command("e2fsck", "-fy", image).CombinedOutput(); err != nil {
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() > 1 { // e2fsck(8): 1 is corrected
			d.t.Fatalf("e2fsck: %v: %s", err, out)
		}
	}
	run(d.t, "mount", "-o", "loop,"+how, image, d.Root)
}
