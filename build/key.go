package build

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
)

// keyVersion goes into every key: it changes whenever the same instruction begins to leave something else.
const keyVersion = "brig build step 1"

// stepKey names what a step leaves: what it does on which step's result, and all of the config that it has a part in. Chains of steps that were carried
// out twice differ, so a key means one file system and no other.
func stepKey(parent string, chain brig.Digest, by string, config brig.ImageConfig, more ...string) string {
	c, err := json.Marshal(config)
	if err != nil {
		panic(err) // strings, numbers and maps of strings
	}
	h := sha256.New()
	for _, part := range append([]string{keyVersion, parent, string(chain), by, string(c)}, more...) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// schily begins the names of PAX records that hold extended attributes.
const schily = "SCHILY.xattr."

// A summer hashes files one after the other. The hash of one is a tarsum of version 1 (its specification is in moby's sources), without the prefix: the history
// shows it. It covers everything but times. It is a tarfs.Sink.
type summer struct {
	dir  bool // there is a directory among them
	d    hash.Hash
	sums []string
}

// WriteHeader begins the next file.
func (x *summer) WriteHeader(h *tar.Header) error {
	x.end()
	x.d = sha256.New()
	x.dir = x.dir || h.Typeflag == tar.TypeDir
	sumHeader(x.d, h)
	return nil
}

// Write takes the file's content.
func (x *summer) Write(b []byte) (int, error) { return x.d.Write(b) }

// end ends the last file, and returns the hashes of all.
func (x *summer) end() []string {
	if x.d != nil {
		x.sums = append(x.sums, hex.EncodeToString(x.d.Sum(nil)))
		x.d = nil
	}
	return x.sums
}

func sumHeader(d hash.Hash, h *tar.Header) {
	for _, kv := range [][2]string{
		{"name", h.Name},
		{"mode", strconv.FormatInt(h.Mode, 10)},
		{"uid", strconv.Itoa(h.Uid)},
		{"gid", strconv.Itoa(h.Gid)},
		{"size", strconv.FormatInt(h.Size, 10)},
		{"typeflag", string([]byte{h.Typeflag})},
		{"linkname", h.Linkname},
		{"uname", h.Uname},
		{"gname", h.Gname},
		{"devmajor", strconv.FormatInt(h.Devmajor, 10)},
		{"devminor", strconv.FormatInt(h.Devminor, 10)},
	} {
		io.WriteString(d, kv[0]+kv[1])
	}
	var attrs []string
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, schily) {
			attrs = append(attrs, k)
		}
	}
	slices.Sort(attrs)
	for _, k := range attrs {
		io.WriteString(d, strings.TrimPrefix(k, schily)+h.PAXRecords[k])
	}
}

// sumOf joins the hashes of several files under a prefix ("dir", "multi").
func sumOf(prefix string, sums []string) string {
	d := sha256.Sum256([]byte(strings.Join(sums, ",")))
	return prefix + ":" + hex.EncodeToString(d[:])
}
