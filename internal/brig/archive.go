package brig

import "io"

// ArchiveImage is one image of a docker-archive or OCI layout, read or to be written.
type ArchiveImage struct {
	Config   []byte         // exact bytes of the image config
	Manifest []byte         // exact bytes of its manifest; nil if there is none or it doesn't describe Layers
	Refs     []string       // familiar name:tag; empty for an image without a name
	Layers   []ArchiveLayer // from the lowest up, one for each diffID of the config
}

// ArchiveLayer is one layer of an archive.
type ArchiveLayer struct {
	// Blob describes the bytes that Open gives, compressed or not. A reader of archives that knows no digest or size
	// leaves Digest "" and Size 0.
	Blob Descriptor
	Diff Digest // of the uncompressed tar
	// Open may be called several times; the caller closes what it returns. Layers of an archive that was read can be opened
	// until the archive is closed.
	Open func() (io.ReadCloser, error)
	// File is a file that holds just these bytes, and whose digest has been verified; "" if there is none. It may be linked, not changed.
	File string
}
