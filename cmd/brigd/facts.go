package main

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// facts are what this host is; they don't change while brigd runs.
type facts struct {
	kernel    string // release
	machine   string // uname -m
	os        string // "Debian GNU/Linux 12 (bookworm)", "FreeBSD 14.1-RELEASE"
	osVersion string
	name      string // host name
	memory    int64  // bytes; 0: unknown
}

// hostFacts reads them; what can't be found out stays empty.
func hostFacts() facts {
	var f facts
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.kernel = unix.ByteSliceToString(u.Release[:])
		f.machine = unix.ByteSliceToString(u.Machine[:])
		f.os = unix.ByteSliceToString(u.Sysname[:]) + " " + f.kernel
	}
	f.name, _ = os.Hostname()
	f.memory = memory()
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if b, err := os.ReadFile(path); err == nil {
			rel := osRelease(string(b))
			if n := rel["PRETTY_NAME"]; n != "" {
				f.os = n
			}
			f.osVersion = rel["VERSION_ID"]
			break
		}
	}
	return f
}

// osRelease parses os-release(5).
func osRelease(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(key, "#") {
			out[key] = strings.Trim(value, `"'`)
		}
	}
	return out
}
