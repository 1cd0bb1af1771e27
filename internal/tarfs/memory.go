package tarfs

import (
	"hash/maphash"

	"golang.org/x/sys/unix"
)

// maxHeld bounds the memory that an extraction keeps for directories until its end, in bytes of names and fixed parts: about a
// million of usual names. An archive can pack more directories into a few megabytes than a host has memory for.
const maxHeld = 128 << 20

// heldEach is what one remembered path costs besides its bytes.
const heldEach = 64

// hold accounts for a path that is remembered until the end.
func (x *extractor) hold(at string) error {
	if x.held += int64(len(at)) + heldEach; x.held > x.o.maxHeld {
		return invalid("archive has too many directories: their names take more than %d bytes", x.o.maxHeld)
	}
	return nil
}

// setTime notes the time that the directory at shall have in the end.
func (x *extractor) setTime(at string, ts unix.Timespec) error {
	if _, ok := x.times[at]; !ok {
		if err := x.hold(at); err != nil {
			return err
		}
	}
	x.times[at] = ts
	return nil
}

func (x *extractor) forgetTime(at string) {
	if _, ok := x.times[at]; ok {
		delete(x.times, at)
		x.held -= int64(len(at)) + heldEach
	}
}

// made is a set of paths that keeps 8 bytes of each, a hash with a secret seed: a layer has many files, and nobody can make two of
// them meet on purpose. That two meet by chance among 4 million has a probability of 1 in 2 million; a whiteout would then spare a file.
type made struct {
	seed maphash.Seed
	set  map[uint64]struct{}
}

func newMade() made { return made{maphash.MakeSeed(), map[uint64]struct{}{}} }

func (m made) add(at string) { m.set[maphash.String(m.seed, at)] = struct{}{} }

func (m made) has(at string) bool {
	_, ok := m.set[maphash.String(m.seed, at)]
	return ok
}
