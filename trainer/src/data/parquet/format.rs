//! What the library reads of the [structs of Parquet](https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift).

use super::thrift::Shape::{self, Binary, Byte, Double, Flag, Integer, List, Struct};

/// At the end of a file.
pub const FILE_METADATA: Shape = Struct(&[
    (1, Integer),
    (2, List(&SCHEMA_ELEMENT)),
    (3, Integer),
    (4, List(&ROW_GROUP)),
    (5, List(&KEY_VALUE)),
    (6, Binary),
    (7, List(&COLUMN_ORDER)),
]);

/// Before each page.
pub const PAGE_HEADER: Shape = Struct(&[
    (1, Integer),
    (2, Integer),
    (3, Integer),
    (4, Integer),
    (5, DATA_PAGE_HEADER),
    (6, EMPTY),
    (7, DICTIONARY_PAGE_HEADER),
    (8, DATA_PAGE_HEADER_V2),
]);

const DATA_PAGE_HEADER: Shape = Struct(&[(1, Integer), (2, Integer), (3, Integer), (4, Integer), (5, STATISTICS)]);

const DICTIONARY_PAGE_HEADER: Shape = Struct(&[(1, Integer), (2, Integer), (3, Flag)]);

const DATA_PAGE_HEADER_V2: Shape = Struct(&[
    (1, Integer),
    (2, Integer),
    (3, Integer),
    (4, Integer),
    (5, Integer),
    (6, Integer),
    (7, Flag),
    (8, STATISTICS),
]);

const SCHEMA_ELEMENT: Shape = Struct(&[
    (1, Integer),
    (2, Integer),
    (3, Integer),
    (4, Binary),
    (5, Integer),
    (6, Integer),
    (7, Integer),
    (8, Integer),
    (9, Integer),
    (10, LOGICAL_TYPE),
]);

const LOGICAL_TYPE: Shape = Struct(&[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, DECIMAL),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, INTEGER),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, VARIANT),
    (17, GEOMETRY),
    (18, GEOGRAPHY),
    (19, EMPTY),
]);

const EMPTY: Shape = Struct(&[]);
const DECIMAL: Shape = Struct(&[(1, Integer), (2, Integer)]);
const TIME: Shape = Struct(&[(1, Flag), (2, TIME_UNIT)]);
const TIME_UNIT: Shape = Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]);
const INTEGER: Shape = Struct(&[(1, Byte), (2, Flag)]);
const VARIANT: Shape = Struct(&[(1, Byte)]);
const GEOMETRY: Shape = Struct(&[(1, Binary)]);
const GEOGRAPHY: Shape = Struct(&[(1, Binary), (2, Integer)]);

const ROW_GROUP: Shape = Struct(&[
    (1, List(&COLUMN_CHUNK)),
    (2, Integer),
    (3, Integer),
    (4, List(&SORTING_COLUMN)),
    (5, Integer),
    (6, Integer),
    (7, Integer),
]);

const SORTING_COLUMN: Shape = Struct(&[(1, Integer), (2, Flag), (3, Flag)]);

const COLUMN_CHUNK: Shape =
    Struct(&[(1, Binary), (2, Integer), (3, COLUMN_METADATA), (4, Integer), (5, Integer), (6, Integer), (7, Integer)]);

const COLUMN_METADATA: Shape = Struct(&[
    (1, Integer),
    (2, List(&Integer)),
    (3, List(&Binary)),
    (4, Integer),
    (5, Integer),
    (6, Integer),
    (7, Integer),
    (8, List(&KEY_VALUE)),
    (9, Integer),
    (10, Integer),
    (11, Integer),
    (12, STATISTICS),
    (13, List(&PAGE_ENCODING)),
    (14, Integer),
    (15, Integer),
    (16, SIZES),
    (17, GEOSPATIAL),
]);

const KEY_VALUE: Shape = Struct(&[(1, Binary), (2, Binary)]);

const STATISTICS: Shape = Struct(&[
    (1, Binary),
    (2, Binary),
    (3, Integer),
    (4, Integer),
    (5, Binary),
    (6, Binary),
    (7, Flag),
    (8, Flag),
    (9, Integer),
]);

const PAGE_ENCODING: Shape = Struct(&[(1, Integer), (2, Integer), (3, Integer)]);

const SIZES: Shape = Struct(&[(1, Integer), (2, List(&Integer)), (3, List(&Integer))]);

const GEOSPATIAL: Shape = Struct(&[(1, BOUNDING_BOX), (2, List(&Integer))]);

const BOUNDING_BOX: Shape =
    Struct(&[(1, Double), (2, Double), (3, Double), (4, Double), (5, Double), (6, Double), (7, Double), (8, Double)]);

const COLUMN_ORDER: Shape = Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]);
