package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A level is what there is of one thing, and how much more of it may be there in the end.
type level struct {
	name  string
	n     int
	slack int
}

// patience is how long what goes by itself may take to go, in rested.
const patience = time.Minute

// rested removes all that the load made, and takes the levels. With before it waits until they are as low as that, up to patience.
func (b *bed) rested(ctx context.Context, before []level) ([]level, error) {
	if err := b.drain(ctx); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; {
		is, err := b.levels(ctx)
		if err != nil || len(grown(before, is)) == 0 && before != nil || time.Now().After(deadline) {
			return is, err
		}
		if before == nil && b.quiet(is) {
			return is, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// quiet reports whether nothing is left of any container.
func (b *bed) quiet(is []level) bool {
	return !slices.ContainsFunc(is, func(l level) bool {
		return l.n > 0 && slices.Contains([]string{"shims", "keepers", "links", "run directories", "containers", "roots", "volumes", "zombies"}, l.name)
	})
}

// levels counts everything.
func (b *bed) levels(ctx context.Context) ([]level, error) {
	id, err := b.Instance()
	if err != nil {
		return nil, err
	}
	_, _, body, err := b.Get(ctx, "/info")
	var info struct{ NGoroutines int }
	if err == nil {
		err = json.Unmarshal([]byte(body), &info)
	}
	if err != nil {
		return nil, fmt.Errorf("ask brigd for info: %w", err)
	}
	proc := filepath.Join("/proc", strconv.Itoa(b.Pid()))
	rss := field(filepath.Join(proc, "status"), "VmRSS:") / 1024
	shims, keepers, zombies := b.processes()
	links, bridges := b.links(id)
	mountinfo, _ := os.ReadFile("/proc/self/mountinfo")
	mounts := 0 // the first container's network makes one that stays
	for l := range bytes.Lines(mountinfo) {
		if bytes.Contains(l, []byte(" "+b.Root+"/")) {
			mounts++
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/brig-" + id + "/*/tasks")
	rules := 0
	for _, family := range []string{"ip", "ip6"} { // a family without a network has no table
		out, _ := exec.CommandContext(ctx, "nft", "list", "table", family, "brig_"+id).Output()
		rules += bytes.Count(out, []byte("\n"))
	}
	in := func(elem ...string) int { return entries(filepath.Join(append([]string{b.Root}, elem...)...)) }
	return []level{
		{"descriptors", entries(filepath.Join(proc, "fd")), 3}, {"goroutines", info.NGoroutines, 5}, {"memory, MiB", rss, 25},
		{"threads", field(filepath.Join(proc, "status"), "Threads:"), 10},
		{"shims", shims, 0}, {"zombies", zombies, 0}, {"keepers", keepers, 0}, {"links", links, 0}, {"bridges", bridges, 0}, {"namespaces", in("netns"), 0}, {"cgroups", len(groups), 0},
		{"mounts", mounts, 1}, {"lines of rules", rules, 0},
		{"keeper's files", in("keeper"), 0}, {"run directories", in("run"), 0}, {"published pods", in("mds", "pods"), 0}, {"containers", in("containers"), 0}, {"roots", in("store", "c"), 0}, {"volumes", in("store", "v"), 0},
		{"layers", in("store", "l"), 0}, {"work", in("store", "w"), 0}, {"blobs", in("blobs", "sha256"), 0}, {"spool", in("spool"), 0},
	}, nil
}

// links counts the instance's ends of containers' links, and its bridges: by name or, where a user has named one, by alias.
func (b *bed) links(id string) (ends, bridges int) {
	all, _ := net.Interfaces()
	for _, l := range all {
		alias, _ := os.ReadFile("/sys/class/net/" + l.Name + "/ifalias")
		switch {
		case strings.HasPrefix(l.Name, "v"+id[:4]+"-"):
			ends++
		case l.Name == "brig-"+id || strings.HasPrefix(l.Name, "br"+id[:4]+"-") || strings.TrimSpace(string(alias)) == "brig_"+id:
			bridges++
		}
	}
	return ends, bridges
}

// processes counts brigd's shims and keepers, and children that it has not reaped.
func (b *bed) processes() (shims, keepers, zombies int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		if bytes.Contains(cmdline, []byte("dir="+b.Root+"/run")) {
			shims++
		}
		if bytes.HasSuffix(cmdline, []byte("\x00"+b.Root+"/keeper\x00")) {
			keepers++
		}
		stat, _ := os.ReadFile(f)
		if rest := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(rest) > 1 && rest[0] == "Z" && rest[1] == strconv.Itoa(b.Pid()) {
			zombies++
		}
	}
	return shims, keepers, zombies
}

// entries counts a directory's; none if there is no such directory.
func entries(dir string) int {
	list, _ := os.ReadDir(dir)
	return len(list)
}

// field is a number in a file of proc_pid_status(5)'s shape; 0 if it isn't there.
func field(file, name string) int {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

// grown lists what there is more of than before, slack included.
func grown(before, after []level) (out []string) {
	for i, l := range before {
		if after[i].n > l.n+l.slack {
			out = append(out, l.name)
		}
	}
	return out
}

// compare prints both, and fails if something has grown.
func compare(w io.Writer, before, after []level) error {
	fmt.Fprintf(w, "%-24s %8s %8s %8s\n", "level", "before", "after", "allowed")
	for i, l := range before {
		fmt.Fprintf(w, "%-24s %8d %8d %8d\n", l.name, l.n, after[i].n, l.n+l.slack)
	}
	if g := grown(before, after); len(g) > 0 {
		return fmt.Errorf("there is more than in the beginning: %s", strings.Join(g, ", "))
	}
	return nil
}
