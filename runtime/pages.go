package runtime

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// A registry's file is a tree of pages. bbolt checks two of them, and follows the others wherever
// they lead, also in circles, which take all memory there is. So all are checked before it reads
// them; what the bytes between say is for others to check. In the byte order of the machine:
//
//	page     0 u64 number   8 u16 kind   10 u16 elements   12 u32 pages that belong to it   16 …
//	meta    32 u64 root   48 u64 free list   56 u64 pages   64 u64 write   72 u64 FNV-1a of 16 to 72
//	branch   0 u32 place of the key   4 u32 its bytes   8 u64 page; one for each element
//	leaf     0 u32 kind   4 u32 place of key and value   8 u32 bytes of the key   12 u32 of the value
//	bucket   0 u64 root, or 0 if a page follows at 16 in the value; a value of kind 1
//
// A place counts from the element's first byte. Source: internal/common of go.etcd.io/bbolt v1.5.
const (
	pageHead, metaBytes, elementBytes, bucketBytes = 16, 80, 16, 16

	branchPage, leafPage, freePage = 1, 2, 16
)

// pageCheck is a check that goes on.
type pageCheck struct {
	file io.ReaderAt
	size int64  // of a page
	seen []bool // by page, whether it has its use
}

// checkPages sees that each page of a file has one place in the tree or is free, and that each key
// and value is in its page. size is that of a page.
func checkPages(file io.ReaderAt, size int) error {
	c := &pageCheck{file: file, size: int64(size)}
	var newest []byte
	last := uint64(0)
	for i := range uint64(2) {
		m, err := c.read(int64(i)*c.size, metaBytes)
		if err != nil {
			return err
		}
		sum, write := fnv.New64a(), binary.NativeEndian.Uint64(m[64:])
		_, _ = sum.Write(m[16:72]) // never fails
		if binary.NativeEndian.Uint64(m) != i || write%2 != i ||
			binary.NativeEndian.Uint64(m[72:]) != sum.Sum64() {
			return fmt.Errorf("page %d is damaged", i)
		}
		if write >= last {
			newest, last = m, write
		}
	}
	c.seen = make([]bool, binary.NativeEndian.Uint64(newest[56:]))
	if len(c.seen) < 2 {
		return fmt.Errorf("it has %d pages", len(c.seen))
	}
	c.seen[0], c.seen[1] = true, true
	if err := c.page(binary.NativeEndian.Uint64(newest[32:])); err != nil {
		return err
	}
	return c.free(binary.NativeEndian.Uint64(newest[48:]))
}

func (c *pageCheck) read(at, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := c.file.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("cannot read %d bytes at %d: %w", n, at, err)
	}
	return b, nil
}

// use notes that a page has its use, of which it can have one.
func (c *pageCheck) use(number uint64) error {
	if number >= uint64(len(c.seen)) || c.seen[number] {
		return fmt.Errorf("page %d is in two places or in none", number)
	}
	c.seen[number] = true
	return nil
}

// open reads the head of a page, and returns what follows of it.
func (c *pageCheck) open(number uint64) (p part, err error) {
	if err := c.use(number); err != nil {
		return p, err
	}
	p.at = int64(number) * c.size
	head, err := c.read(p.at, pageHead)
	if err != nil {
		return p, err
	}
	if n := binary.NativeEndian.Uint64(head); n != number {
		return p, fmt.Errorf("page %d says that it is page %d", number, n)
	}
	more := uint64(binary.NativeEndian.Uint32(head[12:]))
	for i := range more {
		if err := c.use(number + 1 + i); err != nil {
			return p, err
		}
	}
	p.end = p.at + int64(1+more)*c.size
	p.take(head)
	return p, nil
}

// part is a page, or a value that holds one.
type part struct {
	at, end        int64 // in the file
	kind, elements uint16
}

func (p *part) take(head []byte) {
	p.kind = binary.NativeEndian.Uint16(head[8:])
	p.elements = binary.NativeEndian.Uint16(head[10:])
}

// page checks a page and all that are below it.
func (c *pageCheck) page(number uint64) error {
	p, err := c.open(number)
	if err != nil {
		return err
	}
	if p.kind == branchPage && p.elements > 0 {
		return c.branch(p)
	}
	return c.leaf(p)
}

// table reads the elements of a part.
func (c *pageCheck) table(p part) ([]byte, error) {
	n := int64(p.elements) * elementBytes
	if p.at+pageHead+n > p.end {
		return nil, fmt.Errorf("%d elements at %d are too many", p.elements, p.at)
	}
	return c.read(p.at+pageHead, n)
}

func (c *pageCheck) branch(p part) error {
	table, err := c.table(p)
	for i := range int64(p.elements) {
		if err != nil {
			break
		}
		e := table[i*elementBytes:]
		key := p.at + pageHead + i*elementBytes + int64(binary.NativeEndian.Uint32(e))
		if key+int64(binary.NativeEndian.Uint32(e[4:])) > p.end {
			return fmt.Errorf("a key at %d is not in its page", key)
		}
		err = c.page(binary.NativeEndian.Uint64(e[8:]))
	}
	return err
}

func (c *pageCheck) leaf(p part) error {
	if p.kind != leafPage {
		return fmt.Errorf("a page at %d is of kind %d with %d elements", p.at, p.kind, p.elements)
	}
	table, err := c.table(p)
	for i := range int64(p.elements) {
		if err != nil {
			break
		}
		e := table[i*elementBytes:]
		key := p.at + pageHead + i*elementBytes + int64(binary.NativeEndian.Uint32(e[4:]))
		value := key + int64(binary.NativeEndian.Uint32(e[8:]))
		end := value + int64(binary.NativeEndian.Uint32(e[12:]))
		if end > p.end {
			return fmt.Errorf("a value at %d is not in its page", value)
		}
		if binary.NativeEndian.Uint32(e)&1 != 0 {
			err = c.bucket(value, end)
		}
	}
	return err
}

func (c *pageCheck) bucket(at, end int64) error {
	if end-at < bucketBytes {
		return fmt.Errorf("a bucket at %d has %d bytes", at, end-at)
	}
	head, err := c.read(at, bucketBytes)
	if err != nil {
		return err
	}
	if root := binary.NativeEndian.Uint64(head); root != 0 {
		return c.page(root)
	}
	p := part{at: at + bucketBytes, end: end}
	if p.end-p.at < pageHead {
		return fmt.Errorf("a bucket at %d has %d bytes", at, end-at)
	}
	if head, err = c.read(p.at, pageHead); err != nil {
		return err
	}
	p.take(head)
	return c.leaf(p)
}

// free checks the list of pages that are free, or the next write would use one that is not.
func (c *pageCheck) free(number uint64) error {
	p, err := c.open(number)
	if err != nil {
		return err
	}
	if p.kind != freePage {
		return fmt.Errorf("the free list is of kind %d", p.kind)
	}
	n, at := int64(p.elements), p.at+pageHead
	if p.elements == 0xffff { // the number does not fit and comes first
		b, err := c.read(at, 8)
		if err != nil {
			return err
		}
		n, at = int64(binary.NativeEndian.Uint64(b)), at+8
	}
	if n < 0 || n > (p.end-at)/8 {
		return fmt.Errorf("the free list has %d pages", n)
	}
	list, err := c.read(at, 8*n)
	for ; err == nil && len(list) > 0; list = list[8:] {
		err = c.use(binary.NativeEndian.Uint64(list))
	}
	return err
}
