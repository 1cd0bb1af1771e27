package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRootIsLockedAndKeepsItsInstance(t *testing.T) {
	dir := t.TempDir()
	r, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openRoot(dir); err == nil || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a second brigd: %v, want our pid in it", err)
	}
	r.Close()
	again, err := openRoot(dir)
	if err != nil || again.instance != r.instance || !instanceRE.MatchString(r.instance) {
		t.Errorf("instance %q, then %q, %v", r.instance, again.instance, err)
	}
	again.Close()
	os.WriteFile(r.path("instance"), []byte("../../x\n"), 0o600)
	if _, err := openRoot(dir); err == nil || !strings.Contains(err.Error(), "8 hex digits") {
		t.Errorf("a damaged instance id: %v", err)
	}
}

func TestOSRelease(t *testing.T) {
	got := osRelease("# c\nPRETTY_NAME=\"A B\"\nVERSION_ID='12'\nbad\n")
	if got["PRETTY_NAME"] != "A B" || got["VERSION_ID"] != "12" || len(got) != 2 {
		t.Error(got)
	}
}

// A child that a killed brigd had forked keeps the lock until it executes its program.
func TestRootOfADeadBrigdIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	r, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	dead := strconv.Itoa(child.Process.Pid)
	if err := os.WriteFile(r.path("brigd.lock"), []byte(dead+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	freed := make(chan struct{})
	go func() {
		defer close(freed)
		time.Sleep(50 * time.Millisecond)
		r.Close()
	}()
	again, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	<-freed
}

// Others of the host get into no root, be it a new one or one of before.
func TestRootIsClosedToOthers(t *testing.T) {
	for _, mode := range []os.FileMode{0, 0o711, 0o755, 0o700} {
		dir := filepath.Join(t.TempDir(), "r")
		if mode != 0 {
			if err := errors.Join(os.Mkdir(dir, mode), os.Chmod(dir, mode)); err != nil {
				t.Fatal(err)
			}
		}
		r, err := openRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		want := os.FileMode(0o710)
		if mode == 0o700 {
			want = mode
		}
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != want {
			t.Errorf("of %o: %v, %v, not %o", mode, st.Mode(), err, want)
		}
	}
}
