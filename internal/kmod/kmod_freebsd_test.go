package kmod

import (
	"os"
	"strings"
	"testing"
)

// Modules are found as files and as parts of the kernel; what is on no disk is named.
func TestHost(t *testing.T) {
	k := Host(true)
	if k.Has("no_such_module") {
		t.Error("a module is found that there isn't")
	}
	if os.Getuid() == 0 {
		if err := k.Need(t.Context(), "nullfs", "linux64"); err != nil || !k.Has("nullfs") || !k.Has("linux64") {
			t.Errorf("%v; nullfs %v, linux64 %v", err, k.Has("nullfs"), k.Has("linux64"))
		}
	}
	if err := k.Need(t.Context(), "no_such_module"); err == nil || !strings.Contains(err.Error(), "kldload no_such_module") {
		t.Errorf("error %v", err)
	}
}
