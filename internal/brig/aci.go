package brig

import (
	"io"
	"time"
)

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
	ID       Digest   // the image's
	ACI      string   // its ACI ID, "sha512-…"
	Name     string   // appc name
	Ref      string   // familiar name:tag that docker knows it by
	Signers  []Signer // empty: it was unsigned
	Warnings []string
}

// ACIBuild asks for an image that a command makes of another one, as Jetpack builds images.
type ACIBuild struct {
	Base    string    // image
	Args    []string  // the command; it runs as root in the working directory
	Tags    []string  // further names, as docker has them
	Context io.Reader // plain tar of what the working directory holds; read to its end
}

// ACIName is what discovery looks for: a name and labels, as appc's discovery.md has them. The labels os, arch and version may be missing.
type ACIName struct {
	Name   string
	Labels map[string]string
}

// ACIEndpoint is where an ACI and its detached signature may be.
type ACIEndpoint struct{ ACI, Signature string } // URLs

// ACIImport asks for one ACI: of a body, or if From is set from the web.
type ACIImport struct {
	From      string    // URL, or NAME[:VERSION][,LABEL=VALUE…]
	Body      io.Reader // without From; read to its end
	Signature []byte    // detached, of Body, armoured or not; nil: none. With From it is found there
	Insecure  bool      // servers may have bad certificates or speak plain http; signatures are wanted all the same
	Discover  bool      // missing dependencies are looked for on the web
}

// A Signer is who made a signature that was verified.
type Signer struct {
	Fingerprint string // of the primary key, hex digits
	Identity    string
}

// A TrustedKey is an OpenPGP key, and where it is trusted.
type TrustedKey struct {
	Prefix      string // of ACI names; "": all (a root key), or not known yet
	Fingerprint string // of the primary key, lower case hex digits
	Identities  []string
	Created     time.Time
	Expires     time.Time // zero: never
	Problem     string    // why it can't sign now, "" if it can
	Armored     string    // the key itself
}
