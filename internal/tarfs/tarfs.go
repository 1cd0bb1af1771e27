// Package tarfs is the only extractor and the only packer of tar archives, and copies trees.
//
// Everything happens beneath one directory. Names are resolved component by component with openat(2) and O_NOFOLLOW from
// directory descriptors that the package itself opened, so neither an archive nor a process inside the tree can lead it outside.
// A symlink among the parents of a name is followed as the kernel would in a chroot at the root, except that one which climbs
// above the root is refused; the last component of a name is never followed. What a symlink points to is not judged.
//
// Layer archives carry whiteouts (OCI image spec, layer.md). Applied in place they delete what lower layers left; for overlayfs
// they become 0/0 character devices and trusted.overlay.opaque attributes (Documentation/filesystems/overlayfs.rst). Whiteouts
// hide lower layers only, wherever they stand in the archive.
//
// Layers leave times that depend on nothing but the layers: a directory that no entry names keeps the time it had, or gets
// the Unix epoch if it is new.
package tarfs

import (
	"archive/tar"
	"errors"
	"io"

	"github.com/brigd/brig/internal/errs"
)

// Whiteouts says what entries named .wh.* mean.
type Whiteouts int

// The modes. The last two are for layers.
const (
	None    Whiteouts = iota // ordinary files (docker cp)
	Apply                    // delete in place
	Overlay                  // write them as overlayfs reads them
)

// Owner replaces the owners that an archive names; -1 leaves what the system gives.
type Owner struct{ UID, GID int }

// Options of Extract; the zero value extracts a plain archive with its own owners.
type Options struct {
	Whiteouts Whiteouts
	Owner     *Owner // nil: as in the archive
	// Sub is the directory beneath the root that entries go to; it must exist. "": the root. Hardlink targets are relative to it
	// too, symlinks among parents resolve in the whole root.
	Sub string
	// Mounts lie over parts of the tree, without Whiteouts only: entries go to where a process in the tree would see them. One
	// at "." is the root itself. Of several at one place the last one counts.
	Mounts []Mount
	// NoOverwriteDirNonDir refuses to replace a directory by something else, and something else by a directory.
	NoOverwriteDirNonDir bool
	// Lower, with Overlay, gives a directory that shows all lower layers merged; nil if there are none. It is called at
	// most once, and only if needed. From it come the attributes of directories that the archive implies but doesn't
	// name, symlinks among parents, and hardlink targets that live in a lower layer.
	Lower func() (string, error)

	// Limits; 0 means the default.
	MaxEntries int64 // entries, and directories that they only imply; 4 million
	MaxDepth   int   // components of a name; 512
	MaxName    int   // bytes of a name or a link target; 4096
	MaxBytes   int64 // bytes of all regular files together, holes included; 256 GiB

	// Workers is how many goroutines write a layer's files besides the one that reads the archive. 0: one for each processor, up
	// to 4; 1: none, the reader writes. They change nothing but the speed. Other archives than layers are extracted by one
	// goroutine, because programs may be changing the tree meanwhile.
	Workers int

	maxHeld int64 // the constant of that name; tests have less
}

// Stats says what was extracted.
type Stats struct {
	Entries int64
	Bytes   int64 // of regular files
	// Unkept counts extended attributes that this file system or system can't hold.
	Unkept int64
}

// maxLinks bounds the symlinks followed for one name, as MAXSYMLINKS does in the kernel.
const maxLinks = 40

func (o Options) withDefaults() Options {
	if o.MaxEntries == 0 {
		o.MaxEntries = 4 << 20
	}
	if o.MaxDepth == 0 {
		o.MaxDepth = 512
	}
	if o.MaxName == 0 {
		o.MaxName = 4096
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 256 << 30
	}
	if o.maxHeld == 0 {
		o.maxHeld = maxHeld
	}
	return o
}

// layer reports whether the archive is a layer.
func (o Options) layer() bool { return o.Whiteouts != None }

func invalid(format string, args ...any) error { return errs.New(errs.Invalid, format, args...) }

// archiveError gives faults of the archive itself the kind Invalid; errors of the reader keep theirs.
func archiveError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || err == io.ErrUnexpectedEOF {
		return invalid("read archive: %w", err)
	}
	return errs.Wrap(err, "read archive")
}
