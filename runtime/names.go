package runtime

import (
	"fmt"
	"math/rand/v2"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Random names are an adjective and the surname of someone who explored, measured or computed.
var (
	adjectives = []string{
		"agile", "amber", "ample", "arctic", "astute", "balmy", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
		"civil", "clever", "coastal", "copper", "cosy", "crisp", "daring", "deft", "dapper", "eager", "earnest", "easterly", "fair",
		"fearless", "fleet", "fluent", "frank", "gallant", "gentle", "gifted", "glad", "golden", "graceful", "handy", "hardy", "hearty",
		"honest", "humble", "idle", "ivory", "jolly", "jovial", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mighty",
		"modest", "neat", "nimble", "noble", "northern", "patient", "placid", "plucky", "polite", "proud", "prudent", "quick", "quiet",
		"ready", "robust", "rosy", "rugged", "salty", "serene", "sharp", "silent", "silver", "smart", "snug", "sober", "solid", "sprightly",
		"stable", "steady", "sturdy", "sunny", "swift", "tidal", "tidy", "tranquil", "trusty", "upbeat", "valiant", "vivid", "warm",
		"western", "wise", "witty", "zesty",
	}
	surnames = []string{
		"abel", "agnesi", "alhazen", "amundsen", "ampere", "anning", "arago", "avicenna", "baffin", "bell", "bering", "bernoulli", "bessel",
		"bird", "boole", "borlaug", "brahe", "cannon", "cartier", "cauchy", "cavendish", "church", "clairaut", "cook", "cori", "coulomb",
		"curie", "dalton", "davy", "descartes", "dirac", "drake", "earhart", "elion", "erdos", "euclid", "euler", "faraday", "fermat",
		"fermi", "flamsteed", "fourier", "fresnel", "galois", "gauss", "germain", "goeppert", "halley", "hamilton", "harrison", "herschel",
		"hertz", "hilbert", "hopper", "hubble", "humboldt", "huygens", "hypatia", "jemison", "johnson", "joule", "kepler", "khayyam",
		"kovalevskaya", "lagrange", "laplace", "leavitt", "leibniz", "lovelace", "magellan", "maury", "maxwell", "mendel", "mercator",
		"mitchell", "nansen", "napier", "nautilus", "newton", "noether", "ohm", "pascal", "planck", "poisson", "ptolemy", "ramanujan",
		"riemann", "ritchie", "ross", "sagan", "scott", "shackleton", "shannon", "somerville", "stevin", "tasman", "tesla", "torricelli",
		"turing", "vespucci", "volta", "wallis", "watt", "wu", "zeno",
	}
)

// randomName makes one; from the fourth attempt on it carries a number.
func randomName(attempt int) string {
	name := adjectives[rand.IntN(len(adjectives))] + "_" + surnames[rand.IntN(len(surnames))]
	if attempt > 3 {
		name = fmt.Sprintf("%s%d", name, rand.IntN(1000*attempt))
	}
	return name
}

// reserve takes name, or a random one for "", for the container id. release gives it back.
func (c *Containers) reserve(name string, id brig.ID) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name == "" {
		for i := 0; ; i++ {
			if name = randomName(i); c.byName[name] == "" {
				break
			}
		}
	}
	if other := c.byName[name]; other != "" {
		return "", errs.New(errs.Conflict, "Conflict. The container name %q is already in use by container %q. "+
			"You have to remove (or rename) that container to be able to reuse that name.", "/"+name, other)
	}
	c.byName[name] = id
	return name, nil
}

// release gives back a name that id holds.
func (c *Containers) release(name string, id brig.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName[name] == id {
		delete(c.byName, name)
	}
}
