package testbed

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Instance is the id by which brigd names all that it makes on the host. Preconditions: Owned, and started once.
func (s *Server) Instance() (string, error) {
	b, err := os.ReadFile(filepath.Join(s.Root, "instance"))
	return strings.TrimSpace(string(b)), err
}

// Leftovers lists what the server's instance has on the host: mounts beneath its root, processes (but brigd), cgroups,
// links, network namespaces, tables of nftables, and folders of containers. With stopped, brigd does not run any more
// and not even its bridge may be there.
func (s *Server) Leftovers(stopped bool) ([]string, error) {
	id, err := s.Instance()
	if err != nil {
		return nil, err
	}
	var left []string
	for _, find := range []func(id string) ([]string, error){s.mounts, s.processes, cgroups, s.folders} {
		found, err := find(id)
		if err != nil {
			return nil, err
		}
		left = append(left, found...)
	}
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		alias, _ := os.ReadFile("/sys/class/net/" + l.Name + "/ifalias")
		bridge := l.Name == "brig-"+id || strings.HasPrefix(l.Name, "br"+id[:4]+"-") || strings.TrimSpace(string(alias)) == "brig_"+id
		if strings.HasPrefix(l.Name, "v"+id[:4]+"-") || stopped && bridge {
			left = append(left, "link "+l.Name)
		}
	}
	if out, err := exec.Command("nft", "list", "ruleset").Output(); err == nil && stopped && bytes.Contains(out, []byte(id)) {
		left = append(left, "nftables rules")
	}
	spaces, _ := os.ReadDir(filepath.Join(s.Root, "netns"))
	for _, e := range spaces {
		left = append(left, "network namespace "+e.Name())
	}
	return left, nil
}

func (s *Server) mounts(string) (left []string, err error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], s.Root+"/") {
			left = append(left, "mount "+f[4])
		}
	}
	return left, err
}

// processes finds those that name the root in their arguments, and those whose root or network namespace lies beneath it.
func (s *Server) processes(string) (left []string, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == os.Getpid() || s.cmd != nil && pid == s.cmd.Process.Pid {
			continue
		}
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if bytes.Contains(args, []byte(s.Root+"/")) || bytes.HasSuffix(bytes.TrimRight(args, "\x00"), []byte(s.Root)) {
			left = append(left, fmt.Sprintf("process %d: %s", pid, bytes.ReplaceAll(args, []byte{0}, []byte{' '})))
		}
	}
	return left, err
}

func cgroups(id string) (left []string, err error) {
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), id) {
			left = append(left, "cgroup "+path)
		}
		return nil // a cgroup that went away meanwhile is no error
	})
	return left, err
}

// folders are those of containers and jails.
func (s *Server) folders(string) (left []string, err error) {
	for _, sub := range []string{"containers", "run", "pods"} {
		entries, _ := os.ReadDir(filepath.Join(s.Root, sub))
		for _, e := range entries {
			left = append(left, "folder "+sub+"/"+e.Name())
		}
	}
	return left, nil
}

// StorageLeft counts the writable layers of containers that the store knows, by what the overlay and copy drivers keep:
// folders in store/c. What another driver keeps counts as none.
func (s *Server) StorageLeft() int {
	entries, _ := os.ReadDir(filepath.Join(s.Root, "store", "c"))
	return len(entries)
}

// Nft runs nft with these arguments.
func Nft(args ...string) error {
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("nft %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
