package keystore

import (
	"errors"
	"fmt"
)

// object is a Java object, as java.io.ObjectOutputStream writes it: so much of the grammar as the objects in a keystore
// need, and nothing that would run code. Source: Java Object Serialization Specification, chapter 6.
type object struct {
	class *class
	// fields are those of the class and of its superclasses, by name: nil, a string, a []byte, an *object, or nothing
	// for a number.
	fields map[string]any
}

// class is a class descriptor.
type class struct {
	name   string
	enum   bool
	fields []field
	super  *class
}

type field struct {
	code byte // B C D F I J S Z for primitive types, L and [ for others
	name string
}

func (o *object) text(name string) string {
	s, _ := o.fields[name].(string)
	return s
}

func (o *object) bytes(name string) []byte {
	b, _ := o.fields[name].([]byte)
	return b
}

// The type codes of the stream that are understood.
const (
	codeNull      = 0x70
	codeReference = 0x71
	codeClass     = 0x72
	codeObject    = 0x73
	codeString    = 0x74
	codeArray     = 0x75
	codeEnd       = 0x78
	codeEnum      = 0x7e
)

const (
	streamHeader = 0xaced0005
	firstHandle  = 0x7e0000
	// Class flags: serializable without a method of its own for it, and enum.
	flagSerializable = 0x02
	flagEnum         = 0x10
	// maxDepth bounds how deep objects and superclasses are nested; in a keystore it is less than five.
	maxDepth = 16
)

// parseObject reads a stream header and one object. n is their length; the bytes behind are left.
func parseObject(b []byte) (o *object, n int, err error) {
	p := objectParser{reader: reader{b: b}}
	if h := p.u32("stream header"); p.err == nil && h != streamHeader {
		return nil, 0, fmt.Errorf("expected a serialized Java object, found %08x", h)
	}
	v := p.value(0)
	if p.err != nil {
		return nil, 0, fmt.Errorf("serialized Java object: %w", p.err)
	}
	o, ok := v.(*object)
	if !ok {
		return nil, 0, errors.New("expected a serialized Java object, found another value")
	}
	return o, p.off, nil
}

// objectParser reads one stream. handles are the things in it that can be referred to, in order.
type objectParser struct {
	reader
	handles []any
}

func (p *objectParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("byte %d: %s", p.off, fmt.Sprintf(format, args...))
	}
}

func (p *objectParser) handle(v any) int {
	p.handles = append(p.handles, v)
	return len(p.handles) - 1
}

func (p *objectParser) reference() any {
	h := int64(p.u32("reference")) - firstHandle
	if h < 0 || h >= int64(len(p.handles)) {
		p.fail("a reference to something that is not there")
		return nil
	}
	return p.handles[h]
}

// value reads null, a string, a byte array, an object, an enum constant (as the string of its name), or a reference to
// one of these.
func (p *objectParser) value(depth int) any {
	switch code := p.u8("type code"); code {
	case codeNull:
		return nil
	case codeReference:
		return p.reference()
	case codeString:
		s := p.utf("string")
		p.handle(s)
		return s
	case codeArray:
		c := p.class(depth + 1)
		if c == nil || c.name != "[B" {
			p.fail("expected an array of bytes")
			return nil
		}
		h := p.handle(nil)
		b := p.bytes(int64(p.u32("length of an array")), "array")
		p.handles[h] = b
		return b
	case codeEnum:
		c := p.class(depth + 1)
		if c == nil || !c.enum {
			p.fail("expected the class of an enum")
			return nil
		}
		h := p.handle(nil)
		name, ok := p.value(depth + 1).(string)
		if !ok {
			p.fail("expected the name of an enum constant")
		}
		p.handles[h] = name
		return name
	case codeObject:
		return p.object(depth)
	default:
		p.fail("type code %02x is not expected in a key", code)
		return nil
	}
}

func (p *objectParser) object(depth int) any {
	c := p.class(depth + 1)
	if c == nil || c.enum {
		p.fail("expected the class of an object")
		return nil
	}
	o := &object{class: c, fields: map[string]any{}}
	p.handle(o)
	var chain []*class // the superclass's fields come first
	for s := c; s != nil; s = s.super {
		if chain = append(chain, s); len(chain) > maxDepth {
			p.fail("too many superclasses")
			return nil
		}
	}
	for i := len(chain) - 1; i >= 0; i-- {
		for _, f := range chain[i].fields {
			if p.err != nil {
				return nil
			}
			switch f.code {
			case 'B', 'Z':
				p.bytes(1, f.name)
			case 'C', 'S':
				p.bytes(2, f.name)
			case 'F', 'I':
				p.bytes(4, f.name)
			case 'D', 'J':
				p.bytes(8, f.name)
			default:
				o.fields[f.name] = p.value(depth + 1)
			}
		}
	}
	return o
}

// class reads a class descriptor, nil for null. Whatever is nested has a class, so this is where the depth is bounded.
func (p *objectParser) class(depth int) *class {
	if depth > maxDepth {
		p.fail("objects nested too deep")
		return nil
	}
	switch code := p.u8("type code of a class"); code {
	case codeNull:
		return nil
	case codeReference:
		c, ok := p.reference().(*class)
		if !ok {
			p.fail("expected a reference to a class")
		}
		return c
	case codeClass:
	default:
		p.fail("type code %02x is not that of a class", code)
		return nil
	}
	c := &class{name: p.utf("name of a class")}
	p.bytes(8, "serialVersionUID")
	p.handle(c)
	flags := p.u8("flags of a class")
	c.enum = flags&flagEnum != 0
	if flags&^flagEnum != flagSerializable {
		p.fail("class %s has flags %02x, which no key has", c.name, flags)
		return nil
	}
	for n := p.u16("number of fields"); n > 0 && p.err == nil; n-- {
		f := field{code: p.u8("type of a field")}
		f.name = p.utf("name of a field")
		switch f.code {
		case 'B', 'C', 'D', 'F', 'I', 'J', 'S', 'Z':
		case 'L', '[':
			if _, ok := p.value(depth + 1).(string); !ok {
				p.fail("expected the class of field %s", f.name)
			}
		default:
			p.fail("field %s has type %q", f.name, f.code)
		}
		c.fields = append(c.fields, f)
	}
	if end := p.u8("end of a class"); p.err == nil && end != codeEnd {
		p.fail("class %s has annotations, which no key has", c.name)
		return nil
	}
	c.super = p.class(depth + 1)
	return c
}
