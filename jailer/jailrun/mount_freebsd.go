package jailrun

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/brigd/brig/internal/nmount"
	"github.com/brigd/brig/jailer/jailspec"
	"golang.org/x/sys/unix"
)

// mount makes one mount of a jail and returns where it is on the host. Its place is opened without following a link out of the root, and the kernel is
// given that place itself, as the current directory, not a name that could be another's by then.
func mount(b *jailspec.Bundle, m *jailspec.Mount) (at string, err error) {
	if m.Outside {
		if err := os.MkdirAll(m.Target, 0o700); err != nil {
			return "", err
		}
		return m.Target, makeMount(m, m.Target)
	}
	file := false
	if m.Type == "nullfs" {
		st, err := os.Stat(m.From)
		if err != nil {
			return "", err
		}
		file = !st.IsDir()
	}
	dir, name, err := place(b, m.Target, file)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	home, err := os.Open(".")
	if err != nil {
		return "", err
	}
	defer home.Close()
	defer home.Chdir()
	if err := unix.Fchdir(dir); err != nil {
		return "", err
	}
	if !file && name != "." {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		err = unix.Fchdir(fd)
		unix.Close(fd)
		if err != nil {
			return "", err
		}
		name = "."
	}
	if at, err = unix.Getwd(); err != nil {
		return "", err
	}
	if name != "." {
		at += "/" + name
	}
	if !strings.HasPrefix(at, b.Root+"/") && !strings.HasPrefix(at, b.Path+"/") {
		return "", fmt.Errorf("%s is outside of the root", at)
	}
	if err := makeMount(m, name); err != nil {
		return "", err
	}
	var st unix.Statfs_t
	if err = unix.Statfs(at, &st); err == nil && unix.ByteSliceToString(st.Mntonname[:]) != at {
		err = fmt.Errorf("it came to be at %s, not at %s", unix.ByteSliceToString(st.Mntonname[:]), at)
	}
	if err != nil {
		return "", errors.Join(err, unix.Unmount(at, unix.MNT_FORCE))
	}
	return at, nil
}

// stage shows a directory beneath a mount's source at a place of its own, where it can be mounted from by a name that nobody else can change. The
// kernel is given the directory that was found, as the current one.
func stage(m *jailspec.Mount) error {
	root, err := os.OpenRoot(m.From)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.OpenFile(m.Sub, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := os.MkdirAll(m.Stage, 0o700); err != nil {
		return err
	}
	home, err := os.Open(".")
	if err != nil {
		return err
	}
	defer home.Close()
	defer home.Chdir()
	if err := dir.Chdir(); err != nil {
		return err
	}
	return nmount.Mount(nmount.Pairs("nullfs", ".", m.Stage, nil))
}

// place finds a mount's place in the jail's root. What is missing of it is made, in the root itself where the jail sees that read-only.
func place(b *jailspec.Bundle, target string, file bool) (dir int, name string, err error) {
	roots := []string{b.Path}
	if b.Root != b.Path {
		roots = []string{b.Path, b.Root, b.Path}
	}
	for _, root := range roots {
		fd, oerr := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if oerr != nil {
			return -1, "", oerr
		}
		dir, name, err = beneath(fd, target, file)
		unix.Close(fd)
		if err == nil && root == b.Path {
			return dir, name, nil
		}
		if err == nil {
			unix.Close(dir)
		}
	}
	return -1, "", err
}

// makeMount calls nmount(2); an option that older kernels don't know, and that only adds protection, is left out there.
func makeMount(m *jailspec.Mount, target string) error {
	err := nmount.Mount(m.Iov(target))
	if err == nil || m.Type != "nullfs" {
		return err
	}
	without := *m
	without.Options = nil
	for _, o := range m.Options {
		if o[0] != "nounixbypass" {
			without.Options = append(without.Options, o)
		}
	}
	if len(without.Options) == len(m.Options) {
		return err
	}
	return nmount.Mount(without.Iov(target))
}

// links makes the symbolic links of a jail, in its own root: where it sees that read-only it could not be written to. What the image has there goes.
func links(b *jailspec.Bundle) error {
	for _, l := range b.Links {
		if err := os.MkdirAll(jailspec.OwnFiles, 0o755); err != nil {
			return err
		}
		name := path.Base(l.From)
		if err := os.Remove(jailspec.OwnFiles + "/" + name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Link(l.From, jailspec.OwnFiles+"/"+name); err != nil {
			return fmt.Errorf("show %s in the jail: %w", l.From, err)
		}
		if err := symlink(b.Root, l.Target, jailspec.OwnFilesAt+"/"+name); err != nil {
			return fmt.Errorf("make the link %s: %w", l.Target, err)
		}
	}
	return nil
}

// symlink makes target, beneath root, a symbolic link. Its directory keeps its times: the process has not changed it.
func symlink(root, target, to string) error {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	dir, name, err := beneath(fd, path.Dir(target), false)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	in, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	if have, err := readlinkAt(in, path.Base(target)); err == nil && have == to {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil {
		return err
	}
	if err := unix.Unlinkat(in, path.Base(target), 0); err != nil && err != unix.ENOENT {
		return err
	}
	if err := unix.Symlinkat(to, in, path.Base(target)); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// makeCwd makes the working directory if it is missing, as dockerd does.
func makeCwd(b *jailspec.Bundle) error {
	dir, _, err := place(b, b.Main.Cwd, false)
	if err != nil {
		return fmt.Errorf("mkdir %s: %w", b.Main.Cwd, err)
	}
	return unix.Close(dir)
}
