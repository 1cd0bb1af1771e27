package zfsstore

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/nmount"
)

// mountVolume mounts m on dir: a bind mount by nullfs(5), tmpfs(5), what has a program in mount(8)'s family by that, and everything else by nmount(2).
func mountVolume(ctx context.Context, dir string, m brig.VolumeMount) error {
	words := strings.Split(m.Options, ",")
	bind := slices.Contains(words, "bind") || slices.Contains(words, "rbind") || m.Type == "nullfs"
	fail := func(err error) error {
		return fmt.Errorf("failed to mount local volume: mount %s:%s, options: %s: %w", m.Device, dir, m.Options, err)
	}
	var err error
	switch {
	case bind && !filepath.IsAbs(m.Device):
		err = fmt.Errorf("%q is not an absolute path", m.Device)
	case bind:
		if _, err = os.Stat(m.Device); err != nil { // the kernel calls it an invalid argument
			break
		}
		err = mountByOptions("nullfs", m.Device, dir, words)
	case m.Type == "tmpfs":
		err = mountByOptions("tmpfs", "tmpfs", dir, words)
	default:
		err = mountOther(ctx, dir, m, words)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

func mountByOptions(fstype, from, dir string, words []string) error {
	options, err := nmount.Options(fstype, nil, words)
	if err != nil {
		return err
	}
	return nmount.Mount(nmount.Pairs(fstype, from, dir, options))
}

// mountOther runs mount_TYPE(8) if there is one; else what the kernel takes as it is can be mounted.
func mountOther(ctx context.Context, dir string, m brig.VolumeMount, words []string) error {
	fstype, device := m.Type, m.Device
	if fstype == "nfs4" {
		fstype, words = "nfs", append(slices.Clone(words), "nfsvers=4")
	}
	if fstype == "nfs" {
		device, words = nmount.NFS(device, words)
	}
	if program, err := exec.LookPath("mount_" + fstype); err == nil && !strings.Contains(fstype, "/") {
		argv := []string{device, dir}
		if o := strings.Trim(strings.Join(words, ","), ","); o != "" {
			argv = slices.Concat([]string{"-o", o}, argv)
		}
		out, err := exec.CommandContext(ctx, program, argv...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	var options []nmount.Option
	for _, w := range words {
		if name, value, _ := strings.Cut(w, "="); name != "" && name != "rw" {
			options = append(options, nmount.Option{name, value})
		}
	}
	err := nmount.Mount(nmount.Pairs(fstype, device, dir, options))
	if nmount.NoFileSystem(err) {
		return fmt.Errorf("no such device: this kernel has no file system of type %q, or there is no %s; and there is no mount_%s(8)", fstype, device, fstype)
	}
	return err
}

// bindVolume: nullfs(5) holds on to what it shows.
func bindVolume(context.Context, string, brig.OpenDir) error {
	return errs.New(errs.NotImplemented, "a directory that has been opened can't be mounted for a while")
}
