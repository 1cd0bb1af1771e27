package brig

// ACIInfo is what an appc image manifest says of the image itself and of what it stands on.
type ACIInfo struct {
	Name         string
	Labels       map[string]string
	Dependencies []ACIDependency // in the order in which they are laid down
}

// ACIDependency names an image that another one stands on.
type ACIDependency struct {
	Name   string
	ID     string // "sha512-…"; "": any
	Labels map[string]string
}

// ACIArchive is an ACI that was read. Its layer can be opened until Close, which removes the spooled bytes.
type ACIArchive struct {
	ACIInfo
	ID       string       // "sha512-…" of the uncompressed ACI
	Manifest []byte       // exact bytes
	Layer    ArchiveLayer // rootfs/ as a plain tar, as it stands in the ACI: the path whitelist has not been applied
	Close    func() error
}

// ACIImported says what became of an imported ACI.
type ACIImported struct {
	ID       Digest // the image's
	ACI      string // its ACI ID, "sha512-…"
	Name     string // appc name
	Ref      string // familiar name:tag that docker knows it by
	Warnings []string
}
