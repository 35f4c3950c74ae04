//! Hellos made by hand.

/// What a ClientHello says.
#[derive(Clone, Debug)]
pub struct Client {
    pub version: u16,
    pub session: Vec<u8>,
    pub suites: Vec<u8>,
    pub methods: Vec<u8>,
    pub extensions: Option<Vec<(u16, Vec<u8>)>>,
}

impl Client {
    /// One that names a server.
    pub fn naming(name: &[u8]) -> Client {
        Client::with(vec![(43, vec![2, 3, 4]), (0, server_name(name)), (16, b"\0\x03\x02h2".to_vec())])
    }

    pub fn with(extensions: Vec<(u16, Vec<u8>)>) -> Client {
        Client {
            version: 0x303,
            session: vec![7; 32],
            suites: vec![0x13, 1, 0x13, 2],
            methods: vec![0],
            extensions: Some(extensions),
        }
    }

    /// The handshake message.
    pub fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([0x55; 32]);
        body.push(self.session.len() as u8);
        body.extend(&self.session);
        body.extend((self.suites.len() as u16).to_be_bytes());
        body.extend(&self.suites);
        body.push(self.methods.len() as u8);
        body.extend(&self.methods);
        if let Some(extensions) = &self.extensions {
            let mut block = Vec::new();
            for (kind, extension) in extensions {
                block.extend(kind.to_be_bytes());
                block.extend((extension.len() as u16).to_be_bytes());
                block.extend(extension);
            }
            body.extend((block.len() as u16).to_be_bytes());
            body.extend(block);
        }
        let mut message = vec![1];
        message.extend(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend(body);
        message
    }

    /// The message in one record.
    pub fn bytes(&self) -> Vec<u8> {
        record(22, &self.message())
    }
}

/// A server_name extension with one name.
pub fn server_name(name: &[u8]) -> Vec<u8> {
    let mut entry = vec![0];
    entry.extend((name.len() as u16).to_be_bytes());
    entry.extend(name);
    let mut list = (entry.len() as u16).to_be_bytes().to_vec();
    list.extend(entry);
    list
}

pub fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 3, 1];
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A message in records that end at `cuts`.
pub fn records(message: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut begin = 0;
    for &end in cuts.iter().chain([&message.len()]) {
        if end > begin {
            bytes.extend(record(22, &message[begin..end]));
        }
        begin = end;
    }
    bytes
}
