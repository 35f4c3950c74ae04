//! Offsets of structure members, read from the kernel's own type information.
//!
//! Only what offsets need: structures, unions, and the modifiers between a member and its type; and the numbers of the
//! functions of hooks. Source: the kernel's `Documentation/bpf/btf.rst`.

use std::{collections::HashMap, fs, path::Path};

/// Where the kernel shows its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_FLOAT: u32 = 16;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// What the functions of LSM hooks begin with, to which programs are attached.
const HOOKS: &[u8] = b"bpf_lsm_";

/// What can be wrong with the kernel's types.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("cannot read {path}: the kernel shows no type information (CONFIG_DEBUG_INFO_BTF)")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not BTF.
    #[error("malformed kernel type information at byte {0}")]
    Malformed(usize),
    /// The kernel has no such member.
    #[error("this kernel has no `{structure}.{member}`: it is too old, too new, or built without it")]
    Missing {
        /// The structure.
        structure: String,
        /// The member's path.
        member: String,
    },
}

/// The kernel's types, indexed by number.
pub struct Btf {
    bytes: Vec<u8>,
    /// Where each type's record begins; type 0 is void.
    records: Vec<usize>,
    strings: usize,
    structures: HashMap<Vec<u8>, u32>,
    functions: HashMap<Vec<u8>, u32>,
    /// Where the names of hooks' functions begin, by the number of the function, ascending.
    hooks: Vec<(u32, usize)>,
}

impl Btf {
    /// Reads a BTF file and indexes the structures and functions that `wanted` names.
    ///
    /// # Errors
    /// The file cannot be read, or is not BTF.
    pub fn open(path: &Path, wanted: &[&str]) -> Result<Btf, BtfError> {
        let bytes =
            fs::read(path).map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Btf::parse(bytes, wanted)
    }

    /// Indexes BTF bytes.
    ///
    /// # Errors
    /// The bytes are not BTF.
    pub fn parse(bytes: Vec<u8>, wanted: &[&str]) -> Result<Btf, BtfError> {
        let header = |at: usize| word(&bytes, at);
        if bytes.len() < 24 || u16::from_le_bytes([bytes[0], bytes[1]]) != MAGIC {
            return Err(BtfError::Malformed(0));
        }
        let length = header(4)? as usize;
        let types = length + header(8)? as usize;
        let types_end = types + header(12)? as usize;
        let strings = length + header(16)? as usize;
        if types_end > bytes.len() || strings > bytes.len() {
            return Err(BtfError::Malformed(8));
        }
        let (structures, functions) = (HashMap::new(), HashMap::new());
        let mut btf = Btf { records: vec![0], strings, structures, functions, hooks: Vec::new(), bytes };
        let mut at = types;
        while at < types_end {
            let number = btf.records.len() as u32;
            btf.records.push(at);
            let info = word(&btf.bytes, at + 4)?;
            let kind = kind(info);
            if kind == KIND_STRUCT || kind == KIND_FUNC {
                let begin = word(&btf.bytes, at)? as usize;
                if kind == KIND_FUNC
                    && btf.bytes.get(strings + begin..).is_some_and(|name| name.starts_with(HOOKS))
                {
                    btf.hooks.push((number, begin));
                }
                let name = btf.string(begin)?;
                if wanted.iter().any(|wanted| wanted.as_bytes() == name) {
                    let name = name.to_vec();
                    let index = if kind == KIND_FUNC { &mut btf.functions } else { &mut btf.structures };
                    index.entry(name).or_insert(number);
                }
            }
            at += 12 + tail(kind, info).ok_or(BtfError::Malformed(at))?;
        }
        Ok(btf)
    }

    /// Offset of a member, bytes from the structure's start. `member` may lead through nested structures
    /// (`a.b`); anonymous structures and unions are looked through.
    ///
    /// # Errors
    /// The kernel has no such structure or member, or it is a bit field.
    pub fn offset(&self, structure: &str, member: &str) -> Result<u64, BtfError> {
        let missing = || BtfError::Missing { structure: structure.into(), member: member.into() };
        let mut number = *self.structures.get(structure.as_bytes()).ok_or_else(missing)?;
        let mut bits = 0u64;
        for name in member.split('.') {
            let (offset, next) = self.member(number, name.as_bytes())?.ok_or_else(missing)?;
            bits += offset;
            number = next;
        }
        if bits.is_multiple_of(8) { Ok(bits / 8) } else { Err(missing()) }
    }

    /// How many parameters a function has; `None` when the kernel has no such function.
    ///
    /// # Errors
    /// The types are malformed.
    pub fn parameters(&self, function: &str) -> Result<Option<u64>, BtfError> {
        let Some(number) = self.functions.get(function.as_bytes()) else { return Ok(None) };
        let at = self.resolve(*number)?;
        let prototype = self.resolve(word(&self.bytes, at + 8)?)?;
        Ok(Some(u64::from(word(&self.bytes, prototype + 4)? & 0xffff)))
    }

    /// BTF that has nothing but the functions of hooks, each with the number that it has here. A loader that looks for a
    /// hundred thousand others, once for each hook, takes longer for it than the kernel for the program.
    ///
    /// # Errors
    /// The types are malformed.
    pub fn hooks(&self) -> Result<Vec<u8>, BtfError> {
        let count = self.hooks.last().map_or(0, |(number, _)| *number as usize);
        let (mut types, mut strings) = (Vec::with_capacity(count * 12), vec![0]);
        let record = |types: &mut Vec<u8>, name: u32, kind: u32| {
            [name, kind << 24, 0].iter().for_each(|word| types.extend(word.to_le_bytes()));
        };
        for (number, begin) in &self.hooks {
            // Type 0 has no record.
            while types.len() < (*number as usize - 1) * 12 {
                record(&mut types, 0, KIND_FWD);
            }
            record(&mut types, strings.len() as u32, KIND_FUNC);
            strings.extend(self.string(*begin)?);
            strings.push(0);
        }
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        // The version, and no flags.
        bytes.extend([1, 0]);
        let (length, of_types, of_strings) = (24u32, types.len() as u32, strings.len() as u32);
        for word in [length, 0, of_types, of_types, of_strings] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        Ok(bytes)
    }

    /// Offset (bits) and type of a member, looking through anonymous ones.
    fn member(&self, number: u32, name: &[u8]) -> Result<Option<(u64, u32)>, BtfError> {
        let at = self.resolve(number)?;
        let info = word(&self.bytes, at + 4)?;
        if kind(info) != KIND_STRUCT && kind(info) != KIND_UNION {
            return Ok(None);
        }
        for index in 0..(info & 0xffff) as usize {
            let entry = at + 12 + index * 12;
            let member_name = self.string(word(&self.bytes, entry)? as usize)?;
            let member_type = word(&self.bytes, entry + 4)?;
            let raw = word(&self.bytes, entry + 8)?;
            // With the kind flag the upper eight bits are a bit field's size.
            let offset = u64::from(if info >> 31 == 1 { raw & 0xff_ffff } else { raw });
            if member_name == name {
                return Ok(Some((offset, member_type)));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = self.member(member_type, name)?
            {
                return Ok(Some((offset + inner, found)));
            }
        }
        Ok(None)
    }

    /// Where the record of a type begins, behind its modifiers and names.
    fn resolve(&self, number: u32) -> Result<usize, BtfError> {
        let mut number = number;
        for _ in 0..32 {
            let at = *self.records.get(number as usize).ok_or(BtfError::Malformed(0))?;
            match kind(word(&self.bytes, at + 4)?) {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    number = word(&self.bytes, at + 8)?;
                }
                _ => return Ok(at),
            }
        }
        Err(BtfError::Malformed(0))
    }

    fn string(&self, offset: usize) -> Result<&[u8], BtfError> {
        let begin = self.strings + offset;
        let rest = self.bytes.get(begin..).ok_or(BtfError::Malformed(begin))?;
        let end = rest.iter().position(|byte| *byte == 0).ok_or(BtfError::Malformed(begin))?;
        Ok(&rest[..end])
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes behind a record's twelve, by its kind; `None` for a kind that is not known.
fn tail(kind: u32, info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    Some(match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_PTR | KIND_FWD | KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_FUNC
        | KIND_FLOAT | KIND_TYPE_TAG => 0,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => count * 12,
        KIND_ENUM | KIND_FUNC_PROTO => count * 8,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    bytes
        .get(at..at + 4)
        .and_then(|slice| slice.try_into().ok())
        .map(u32::from_le_bytes)
        .ok_or(BtfError::Malformed(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_malformed_and_never_a_panic() {
        assert!(matches!(Btf::parse(vec![0; 64], &[]), Err(BtfError::Malformed(0))));
        assert!(matches!(Btf::parse(vec![], &[]), Err(BtfError::Malformed(0))));
        let mut header = MAGIC.to_le_bytes().to_vec();
        header.extend([1, 0]);
        header.extend(24u32.to_le_bytes());
        header.extend([0xff; 16]);
        assert!(Btf::parse(header, &[]).is_err());
    }

    #[test]
    fn members_of_this_kernel_are_found_through_nesting() {
        let wanted = ["task_struct", "file", "sock", "security_path_mknod"];
        let Ok(btf) = Btf::open(Path::new(VMLINUX), &wanted) else {
            eprintln!("skipped: this kernel shows no types");
            return;
        };
        assert!(btf.offset("task_struct", "real_parent").unwrap() > 0);
        assert!(btf.offset("sock", "__sk_common.skc_family").unwrap() < 64);
        btf.offset("file", "f_path").unwrap();
        assert!(matches!(btf.offset("file", "no_such_member"), Err(BtfError::Missing { .. })));
        assert!(matches!(btf.offset("inode", "i_ino"), Err(BtfError::Missing { .. })));
        assert_eq!(btf.parameters("security_path_mknod").unwrap(), Some(4));
        assert_eq!(btf.parameters("no_such_function").unwrap(), None);
    }

    #[test]
    fn hooks_keep_their_numbers() {
        let Ok(btf) = Btf::open(Path::new(VMLINUX), &[]) else {
            eprintln!("skipped: this kernel shows no types");
            return;
        };
        if btf.hooks.is_empty() {
            eprintln!("skipped: this kernel has no hooks for programs");
            return;
        }
        let hooks = Btf::parse(btf.hooks().unwrap(), &[]).unwrap();
        assert_eq!(hooks.hooks.len(), btf.hooks.len());
        for ((number, name), (own, own_name)) in btf.hooks.iter().zip(&hooks.hooks) {
            assert_eq!((number, btf.string(*name).unwrap()), (own, hooks.string(*own_name).unwrap()));
        }
        aya::Btf::parse(&btf.hooks().unwrap(), aya::Endianness::default()).unwrap();
    }
}
