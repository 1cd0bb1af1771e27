package runtime

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// commands lists what has been started in jails, in order.
func (w *world) commands() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.started)
}

func handled(pre, main, post string) brig.Spec {
	s, now := spec(main), 0
	s.StopTimeout = &now
	if pre != "" {
		s.PreStart = strings.Fields(pre)
	}
	if post != "" {
		s.PostStop = strings.Fields(post)
	}
	return s
}

func TestHandlersRunAroundTheMainProcess(t *testing.T) {
	b := newWorld(t).boot(0)
	id := b.run(t, "one", handled("echo before", "true", "echo after"))
	if e := b.wait(t, "one", ""); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
	if got := b.commands(); !slices.Equal(got, []string{"echo before", "true", "echo after"}) {
		t.Errorf("ran %q", got)
	}
	if d := b.get(t, string(id)); d.State != brig.Exited || d.ExitCode != 0 {
		t.Errorf("%+v", d.Status)
	}
	b.checkNothingLeft(t)
	if err := b.Containers.Start(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	b.wait(t, "one", "")
	if got := b.commands(); len(got) != 6 {
		t.Errorf("the second run: %q", got)
	}
}

// A handler that fails before fails the start, and one after the end changes nothing.
func TestHandlersThatFail(t *testing.T) {
	b := newWorld(t).boot(0)
	for pre, want := range map[string]string{
		"false": `the pre-start handler "false": ended with exit code 1`, "nosuch": `the pre-start handler "nosuch": exec: "nosuch": executable file not found`,
		"fail words": `the pre-start handler "fail": ended with exit code 1: words`,
	} {
		id := b.make(t, "", handled(pre, "sleep", "true"))
		err := b.Containers.Start(t.Context(), string(id))
		wantErr(t, pre, err, errs.Invalid, want)
		code := 128
		if pre == "nosuch" {
			code = 127
		}
		if d := b.get(t, string(id)); d.State != brig.Created || d.ExitCode != code || d.Error == "" {
			t.Errorf("%s: %+v", pre, d.Status)
		}
		b.checkNothingLeft(t)
	}
	if got := b.commands(); slices.Contains(got, "sleep") || slices.Contains(got, "true") {
		t.Errorf("ran %q", got)
	}
	b.run(t, "after", handled("", "true", "false"))
	if e := b.wait(t, "after", ""); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
	b.checkNothingLeft(t)
}

// awaitStart waits until a command has been started.
func (w *world) awaitStart(t *testing.T, command string) {
	t.Helper()
	w.awaitStarts(t, command, 1)
}

// awaitStarts waits until a command has been started that many times.
func (w *world) awaitStarts(t *testing.T, command string, times int) {
	t.Helper()
	for {
		n := 0
		for _, c := range w.commands() {
			if c == command {
				n++
			}
		}
		if n >= times {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s was never started", command)
		case <-time.After(time.Millisecond):
		}
	}
}

// Who stops, kills or removes a container ends its handler.
func TestHandlersEndWhenAsked(t *testing.T) {
	timeout := 0
	for name, end := range map[string]func(b *brigd) error{
		"stop": func(b *brigd) error { return b.Stop(context.Background(), "one", brig.StopOptions{Timeout: &timeout}) },
		"kill": func(b *brigd) error { return b.Kill(context.Background(), "one", "") },
		"remove": func(b *brigd) error {
			return b.Containers.Remove(context.Background(), "one", brig.RemoveOptions{Force: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newWorld(t).boot(0)
			b.make(t, "one", handled("stubborn", "sleep", ""))
			failed := make(chan error)
			go func() { failed <- b.Containers.Start(context.Background(), "one") }()
			b.awaitStart(t, "stubborn")
			if err := end(b); err != nil {
				t.Errorf("before: %v", err)
			}
			if err := <-failed; err == nil || !strings.Contains(err.Error(), "ended with exit code 137") {
				t.Errorf("start: %v", err)
			}
			b.checkNothingLeft(t)
			if name != "remove" {
				b.Containers.Remove(t.Context(), "one", brig.RemoveOptions{})
			}
			b.run(t, "one", handled("", "true", "stubborn"))
			b.awaitStarts(t, "stubborn", 2) // the first was the pre-start
			if err := end(b); err != nil {
				t.Errorf("after: %v", err)
			}
			if name != "remove" {
				b.wait(t, "one", "")
			}
			b.checkNothingLeft(t)
		})
	}
}

// Who stops a container between the end of its process and the start of the handler after that doesn't leave the handler running.
func TestStoppedBeforeItsHandler(t *testing.T) {
	timeout := 0
	for range 3 {
		b := newWorld(t).boot(0)
		b.run(t, "one", handled("", "true", "stubborn"))
		ended, err := b.Wait(t.Context(), "one", brig.WaitNotRunning)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Stop(t.Context(), "one", brig.StopOptions{Timeout: &timeout}); err != nil && !errs.Is(err, errs.NotModified) {
			t.Fatal(err)
		}
		<-ended
		b.checkNothingLeft(t)
	}
}

// A process that ends while no brigd runs has its handler run by the next one, whose start doesn't wait for that.
func TestHandlerAfterAnUnseenEnd(t *testing.T) {
	w := newWorld(t)
	b := w.boot(0)
	id := b.run(t, "one", handled("", "sleep", "stubborn"))
	b.Containers.Close()
	w.mu.Lock()
	w.jails[b.get(t, string(id)).Handle.JailID].finish(3)
	w.mu.Unlock()
	b = w.boot(0)
	b.awaitStart(t, "stubborn")
	ended, err := b.Wait(t.Context(), "one", brig.WaitNotRunning)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-ended:
		t.Errorf("told of the end before the handler's: %+v", e)
	default:
	}
	if err := b.Kill(t.Context(), "one", ""); err != nil {
		t.Error(err)
	}
	<-ended
	if e := b.wait(t, "one", ""); e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
	b.checkNothingLeft(t)
}

func TestWorkingDirectoryThatMustExist(t *testing.T) {
	w := newWorld(t)
	w.setup = func(root string) {
		os.MkdirAll(filepath.Join(root, "there"), 0o755)
		os.WriteFile(filepath.Join(root, "file"), nil, 0o644)
	}
	b := w.boot(0)
	volume := t.TempDir()
	os.Mkdir(filepath.Join(volume, "in"), 0o755)
	for dir, want := range map[string]string{
		"/there": "", "/v/in": "", "/none": "the working directory /none does not exist", "/v/none": "the working directory /v/none does not exist", "/file": "is not a directory",
	} {
		s := spec("true")
		s.WorkingDir, s.CwdExists = dir, true
		s.Mounts = []brig.Mount{{Type: brig.MountBind, Source: volume, Target: "/v"}}
		err := b.Containers.Start(t.Context(), string(b.make(t, "", s)))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestVolumesByAppcsRules(t *testing.T) {
	w := newWorld(t)
	w.setup = func(root string) {
		os.MkdirAll(filepath.Join(root, "full/x"), 0o755)
		os.MkdirAll(filepath.Join(root, "empty"), 0o755)
		os.WriteFile(filepath.Join(root, "file"), nil, 0o644)
		os.Symlink("/etc", filepath.Join(root, "out"))
	}
	b := w.boot(0)
	src := t.TempDir()
	os.MkdirAll(filepath.Join(src, "dir"), 0o755)
	os.WriteFile(filepath.Join(src, "f"), nil, 0o644)
	os.Symlink("dir", filepath.Join(src, "link"))
	os.MkdirAll(filepath.Join(src, "dir/sub"), 0o755)
	for _, c := range []struct{ source, target, err, warning string }{
		{"dir", "/new/deep", "", ""}, {"dir", "/empty", "", ""}, {"f", "/new/f", "", ""}, {"dir", "/out/x", "", ""},
		{"dir", "/full", "", "the volume at /full masks files of the image"},
		{"dir", "/file", "", "the volume at /file takes the place of a file of the image"},
		{"f", "/file", "", "the volume at /file masks a file of the image"},
		{"f", "/full", "is a file, and the image has a directory there", ""},
		{"none", "/x", "the source of a host volume does not exist", ""},
		{"link", "/x", "is reached by a symbolic link", ""}, {"link/sub", "/x", "is reached by a symbolic link", ""},
	} {
		s := spec("true")
		s.Mounts = []brig.Mount{{Type: brig.MountBind, Source: filepath.Join(src, c.source), Target: c.target, Appc: true}}
		id, warnings, err := b.Create(t.Context(), brig.CreateRequest{Spec: s})
		if got := strings.Join(warnings, ""); got != c.warning {
			t.Errorf("%+v: warnings %q", c, got)
		}
		if c.err != "" {
			wantErr(t, c.source, err, errs.Invalid, c.err)
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if c.target == "/out/x" { // left to the mount, which resolves it inside
			continue
		}
		st, err := os.Stat(filepath.Join(b.rootfs(b.get(t, string(id)).RootFS), c.target))
		if err != nil || st.IsDir() != (c.source == "dir") {
			t.Errorf("%+v: %v, %v", c, st, err)
		}
	}
	b.checkNothingLeft(t)
}
