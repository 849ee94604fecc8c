// Verify a log directory with golang.org/x/mod/sumdb, which shares no code with lydite.
//
//	verify DIR LOG-VKEY [WITNESS-VKEY...]
//
// DIR holds what the log serves: checkpoint, tile/..., and may hold
//
//	proofs/*.tlog-proof   with the entry beside it, as *.entry
//	consistency           lines "old-size old-root hash...", base64, each to the checkpoint
//
// It prints one line of JSON with what it verified, or says what failed and exits 1.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type report struct {
	Size        int64 `json:"size"`
	Cosigned    int   `json:"cosigned"`
	Entries     int   `json:"entries"`
	Proofs      int   `json:"proofs"`
	Consistency int   `json:"consistency"`
}

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: verify DIR LOG-VKEY [WITNESS-VKEY...]"))
	}
	found, err := verify(os.Args[1], os.Args[2], os.Args[3:])
	fail(err)
	out, err := json.Marshal(found)
	fail(err)
	fmt.Println(string(out))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func verify(dir, logKey string, witnessKeys []string) (found report, err error) {
	verifiers, err := verifiersOf(logKey, witnessKeys)
	if err != nil {
		return found, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return found, err
	}
	tree, cosigned, err := open(raw, verifiers)
	if err != nil {
		return found, err
	}
	found.Size, found.Cosigned = tree.N, cosigned
	reader := tlog.TileHashReader(tree, &files{dir})
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil || root != tree.Hash {
		return found, fmt.Errorf("root from tiles is %v, not %v: %v", root, tree.Hash, err)
	}
	if found.Entries, err = entries(dir, tree, reader); err != nil {
		return found, err
	}
	if found.Proofs, err = proofs(dir, verifiers); err != nil {
		return found, err
	}
	found.Consistency, err = consistency(dir, tree, reader)
	return found, err
}

// cosigner verifies cosignature/v1, which package note does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }
func (c *cosigner) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	head := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(c.key, append([]byte(head), text...), sig[8:])
}

func verifiersOf(logKey string, witnessKeys []string) ([]note.Verifier, error) {
	log, err := note.NewVerifier(logKey)
	if err != nil {
		return nil, err
	}
	verifiers := []note.Verifier{log}
	for _, vkey := range witnessKeys {
		parts := strings.SplitN(vkey, "+", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("malformed vkey %q", vkey)
		}
		key, err := base64.StdEncoding.DecodeString(parts[2])
		if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 4 {
			return nil, fmt.Errorf("not a cosignature key: %q", vkey)
		}
		sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
		hash := binary.BigEndian.Uint32(sum[:4])
		if fmt.Sprintf("%08x", hash) != parts[1] {
			return nil, fmt.Errorf("wrong key id in %q", vkey)
		}
		verifiers = append(verifiers, &cosigner{parts[0], hash, key[1:]})
	}
	return verifiers, nil
}

// open verifies a checkpoint and returns its tree and the number of cosignatures on it.
func open(raw []byte, verifiers []note.Verifier) (tlog.Tree, int, error) {
	opened, err := note.Open(raw, note.VerifierList(verifiers...))
	if err != nil {
		return tlog.Tree{}, 0, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifiers[0].Name() || opened.Sigs[0].Name != lines[0] {
		return tlog.Tree{}, 0, fmt.Errorf("not a checkpoint of %s", verifiers[0].Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, 0, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: hash}, len(opened.Sigs) - 1, err
}

// files reads tiles as C2SP tlog-tiles names them: sumdb's names less their height.
type files struct{ dir string }

func (f *files) Height() int                     { return 8 }
func (f *files) SaveTiles([]tlog.Tile, [][]byte) {}
func (f *files) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		content, err := os.ReadFile(filepath.Join(f.dir, path))
		if err != nil {
			return nil, err
		}
		data = append(data, content)
	}
	return data, nil
}

// entries checks that every entry of every bundle is the record that the tree holds.
func entries(dir string, tree tlog.Tree, reader tlog.HashReader) (count int, err error) {
	for start := int64(0); start < tree.N; start += 256 {
		tile := tlog.Tile{H: 8, L: 0, N: start / 256, W: 256}
		if tree.N-start < 256 {
			tile.W = int(tree.N - start)
		}
		path := strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)
		bundle, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return count, err
		}
		for i := 0; i < tile.W; i++ {
			if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
				return count, fmt.Errorf("%s ends within an entry", path)
			}
			length := int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2 : 2+length]
			bundle = bundle[2+length:]
			if err := record(start+int64(i), entry, tree, reader); err != nil {
				return count, err
			}
			count++
		}
		if len(bundle) != 0 {
			return count, fmt.Errorf("%s holds too much", path)
		}
	}
	return count, nil
}

// record checks an entry against the tree: each 101st by a proof made and checked by sumdb.
func record(index int64, entry []byte, tree tlog.Tree, reader tlog.HashReader) error {
	hash := tlog.RecordHash(entry)
	if index%101 == 0 {
		proof, err := tlog.ProveRecord(tree.N, index, reader)
		if err != nil {
			return err
		}
		return tlog.CheckRecord(proof, tree.N, tree.Hash, index, hash)
	}
	stored, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return err
	}
	if stored[0] != hash {
		return fmt.Errorf("entry %d is not the one in the tree", index)
	}
	return nil
}

// proofs checks the .tlog-proof files that lydite made.
func proofs(dir string, verifiers []note.Verifier) (count int, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "proofs", "*.tlog-proof"))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			return count, err
		}
		entry, err := os.ReadFile(strings.TrimSuffix(name, ".tlog-proof") + ".entry")
		if err != nil {
			return count, err
		}
		if err := proof(raw, entry, verifiers); err != nil {
			return count, fmt.Errorf("%s: %v", filepath.Base(name), err)
		}
		count++
	}
	return count, nil
}

func proof(raw, entry []byte, verifiers []note.Verifier) error {
	split := bytes.Index(raw, []byte("\n\n"))
	if split < 0 {
		return fmt.Errorf("no checkpoint")
	}
	lines := strings.Split(string(raw[:split]), "\n")
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return fmt.Errorf("not a proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	path, err := hashes(lines[2:])
	if err != nil {
		return err
	}
	tree, _, err := open(raw[split+2:], verifiers)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(entry))
}

// consistency checks the proofs that lydite made, and that sumdb makes the same ones.
func consistency(dir string, tree tlog.Tree, reader tlog.HashReader) (count int, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "consistency"))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		words := strings.Fields(line)
		size, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			return count, err
		}
		found, err := hashes(words[1:])
		if err != nil {
			return count, err
		}
		root, path := found[0], tlog.TreeProof(found[1:])
		if err := tlog.CheckTree(path, tree.N, tree.Hash, size, root); err != nil {
			return count, fmt.Errorf("from size %d: %v", size, err)
		}
		own, err := tlog.ProveTree(tree.N, size, reader)
		if err != nil || fmt.Sprint(own) != fmt.Sprint(path) {
			return count, fmt.Errorf("from size %d: sumdb proves it otherwise: %v", size, err)
		}
		count++
	}
	return count, nil
}

func hashes(lines []string) (found []tlog.Hash, err error) {
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		found = append(found, hash)
	}
	return found, nil
}
