package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
)

// What is too little for images and containers to be made.
const (
	lowSpace  = 512 << 20 // bytes
	lowInodes = 10_000
	lowFiles  = 4096 // descriptors: a start needs some ten, a pull more
)

// facts are what brigd has found on this host, for a person to read.
func (h *housekeeper) facts(ctx context.Context) [][2]string {
	jail := h.e.jails.Facts()
	driver, status := h.e.store.Driver()
	out := [][2]string{
		{"version", version}, {"root", h.e.root.dir}, {"instance", h.e.root.instance},
		{"runtime", fmt.Sprintf("%s %s (%s)", jail.RuntimeName, jail.RuntimeVersion, jail.RuntimePath)}, {"storage", driver},
	}
	for _, s := range status {
		out = append(out, [2]string{"storage: " + s[0], s[1]})
	}
	out = append(out, h.systemFacts(ctx)...)
	for _, tool := range append([]string{"igzip", "zfs"}, systemTools...) {
		where := "not installed"
		if p := lookFor(tool); p != "" {
			where = p
		}
		out = append(out, [2]string{tool, where})
	}
	on := map[bool]string{true: "on", false: "off"}
	out = append(out, [2]string{"IPv4 forwarding", on[forwarding()]})
	if free, inodes, err := space(h.e.root.dir); err == nil {
		out = append(out, [2]string{"free space", fmt.Sprintf("%d MiB", free>>20)}, [2]string{"free inodes", fmt.Sprint(inodes)})
	}
	return out
}

// lookFor finds a program in PATH and root's own directories; "" if it isn't there.
func lookFor(name string) string {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin") {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// space returns the bytes and inodes that are free where dir lies. File systems that don't count inodes say 0 of 0: that is as many as one wants.
func space(dir string) (free, inodes uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	inodes = uint64(st.Ffree)
	if st.Files == 0 {
		inodes = 1 << 62
	}
	return uint64(st.Bavail) * uint64(st.Bsize), inodes, nil
}

// examineHost notes what keeps this host from running containers well. All of it is the operator's to judge.
func (h *housekeeper) examineHost(ctx context.Context, d *brig.Diagnosis) {
	note := func(subject, format string, args ...any) {
		d.Add(brig.Finding{Check: "host", Subject: subject, Problem: fmt.Sprintf(format, args...), Note: true}, false, nil)
	}
	free, inodes, err := space(h.e.root.dir)
	switch {
	case err != nil:
		note("disk", "its free space can't be told: %v", err)
	case free < lowSpace:
		note("disk", "only %d MiB are free at %s", free>>20, h.e.root.dir)
	case inodes < lowInodes:
		note("disk", "only %d inodes are free at %s", inodes, h.e.root.dir)
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err == nil && l.Max < lowFiles {
		note("nofile", "brigd may open only %d files", l.Max)
	}
	if driver, _ := h.e.store.Driver(); driver == "copy" {
		note("storage", "neither zfs nor overlayfs can be used: every container is a full copy of its image")
	}
	d.Findings = append(d.Findings, h.examineSystem(ctx)...)
}
