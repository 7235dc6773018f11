type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Compiles only if both types are the same one (`any` is the same as nothing but `any`). */
export declare function same<A, B>(...differs: Equal<A, B> extends true ? [] : ["the types differ"]): void;
