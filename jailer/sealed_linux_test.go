package jailer

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSealed executes the copy, can't write to it, and gets another one when the program is replaced.
func TestSealed(t *testing.T) {
	programs := map[string][]byte{}
	for _, name := range []string{"true", "false"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if programs[name], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "program")
	put := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path+".new", b, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	s := &sealed{path: path}
	run := func() (code int) {
		t.Helper()
		f := s.open()
		if f == nil {
			t.Fatal("no copy")
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Error("the copy can be written to")
		}
		cmd := exec.Command("/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{f}
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode()
	}
	put(programs["true"])
	if got := run(); got != 0 {
		t.Errorf("true ends with %d", got)
	}
	put(programs["false"])
	if got := run(); got != 1 {
		t.Errorf("after the replacement: false ends with %d", got)
	}
	put([]byte("#!/bin/sh\nexit 0\n"))
	if f := s.open(); f != nil {
		t.Error("a copy of a script, which its interpreter can't read")
		f.Close()
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if f := s.open(); f != nil {
		b, _ := io.ReadAll(f)
		t.Errorf("a copy of a program that is gone: %d bytes", len(b))
	}
}
