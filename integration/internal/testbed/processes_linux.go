package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Processes lists those of the host that this process sees.
func Processes() (out []Process, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		p, err := processOf(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, err
}

func processOf(pid int) (Process, error) {
	f, err := statOf(pid)
	if err != nil {
		return Process{}, err
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return Process{}, err
	}
	parent, err := strconv.Atoi(f[1])
	return Process{Pid: pid, Parent: parent, Args: string(bytes.ReplaceAll(bytes.TrimRight(args, "\x00"), []byte{0}, []byte{' '})), Dead: f[0] == "Z" || f[0] == "X"}, err
}

// statOf are the fields of proc_pid_stat(5) from the third on.
func statOf(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])), nil
}

// OpenFiles counts the descriptors of a process.
func OpenFiles(pid int) (int, error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(files), err
}

// Resident is the resident memory of a process in bytes.
func Resident(pid int) (int64, error) {
	kib, err := field(pid, "status", `VmRSS:\s+(\d+) kB`)
	return kib[0] << 10, err
}

// FileLimits are a process's limits of descriptors.
func FileLimits(pid int) (soft, hard int64, err error) {
	n, err := field(pid, "limits", `Max open files +(\d+) +(\d+) `)
	return n[0], n[1], err
}

// field finds one or two numbers in a file of a process.
func field(pid int, file, pattern string) (n [2]int64, err error) {
	name := fmt.Sprintf("/proc/%d/%s", pid, file)
	b, err := os.ReadFile(name)
	if err != nil {
		return n, err
	}
	m := regexp.MustCompile(pattern).FindSubmatch(b)
	if m == nil {
		return n, fmt.Errorf("%s has no %s", name, pattern)
	}
	for i, text := range m[1:] {
		if n[i], err = strconv.ParseInt(string(text), 10, 64); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Spent says what a process's children have cost that it has waited for, and how many it has now: the same twice means that it has started none.
func Spent(pid int) (string, error) {
	f, err := statOf(pid)
	if err != nil {
		return "", err
	}
	n, err := Children(pid)
	return fmt.Sprintf("%s %s in user and kernel mode, %d children", f[13], f[14], n), err
}
